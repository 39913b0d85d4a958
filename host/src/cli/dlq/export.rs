//! `taskhost dlq export`: writes complete dead letters, one JSON object a line.

use clap::Args;

use super::chosen::{Filters, state};
use crate::cli::database::Database;
use crate::cli::{EXIT_CODES, Failure, Global, output};
use crate::letters;
use crate::store::State;

/// Dead letters in one page: each may have megabytes.
const PAGE: u32 = 50;

/// Write complete dead letters, one JSON object a line, for `taskhost dlq import` or another program.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq export --since 1d > letters.jsonl\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    filters: Filters,
    /// Only in this state; may be repeated.
    #[arg(long, value_parser = state)]
    state: Vec<State>,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let filter = arguments.filters.filter(&config, &arguments.state)?;
    let database = Database::open(&config)?;
    let (store, group) = (&database.store, &config.kafka.group_id);
    let mut after = None;
    loop {
        let page = database.ask(store.dead_letter_page(group, &filter, after.as_ref(), PAGE))?;
        let Some((_, place)) = page.last() else {
            return Ok(());
        };
        after = Some(*place);
        let mut text = String::new();
        for (stored, _) in &page {
            let edits = match stored.edits {
                0 => Vec::new(),
                _ => database
                    .ask(store.show_dead_letter(group, stored.letter.id))?
                    .map(|(_, edits)| edits)
                    .unwrap_or_default(),
            };
            text.push_str(&format!("{}\n", letters::whole(stored, &edits)));
        }
        if output::print_part(&text)?.is_break() {
            return Ok(());
        }
    }
}
