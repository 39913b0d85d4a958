//! How results are written: tables for people, one JSON object a line for scripts, all on standard output.

use std::io::{self, Write as _};
use std::ops::ControlFlow;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use super::Failure;

/// Writes a result. It is no failure if the reader stops early, like `head`.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_part(text).map(|_| ())
}

/// Writes a part of a result; breaks if the reader has stopped.
pub(super) fn print_part(text: &str) -> Result<ControlFlow<()>, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::Failed(format!(
            "the result can't be written: {error}"
        ))),
    }
}

/// A table's text, without the spaces at the end of its lines.
pub(super) fn text(table: &Table) -> String {
    table.trim_fmt() + "\n"
}

/// A table without borders, as wide as the terminal allows.
pub(super) fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = headless_table();
    table.set_header(head);
    table
}

/// [`table`] without a head.
pub(super) fn headless_table() -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// A status, coloured by the meaning that it has in the shipped plugins; only on a terminal, and not if `NO_COLOR` is
/// set (<https://no-color.org>).
pub(super) fn status(text: &str) -> Cell {
    let colour = match text {
        "completed" => Some(Color::Green),
        "error" => Some(Color::Red),
        "started" => Some(Color::Yellow),
        _ => None,
    };
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match colour.filter(|_| wanted) {
        Some(colour) => Cell::new(text).fg(colour),
        None => Cell::new(text),
    }
}

/// JSON text on one line: between tokens, a line end is only white space.
pub(super) fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}
