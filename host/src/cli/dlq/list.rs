//! `taskhost dlq list`: lists dead letters page by page, the last first.

use clap::Args;
use serde_json::Value;
use taskhost_core::task::TaskId;
use taskhost_core::timestamp::to_rfc3339;

use super::chosen::{Filters, state};
use crate::cli::database::Database;
use crate::cli::output::{self, table};
use crate::cli::{EXIT_CODES, Failure, Global, Output};
use crate::letters;
use crate::store::{State, StoredDeadLetter};

/// Dead letters in one page.
const PAGE: u32 = 1000;

/// List dead letters, the last first.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq list --code unknown-status --since 12h\n  taskhost dlq list --state open --all --json | jq -r .id\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    filters: Filters,
    /// Only in this state: open, replaying, waiting, parked, applied, ignored, discarded or republished; may be repeated.
    #[arg(long, value_parser = state)]
    state: Vec<State>,
    /// The most dead letters to list.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// List all dead letters.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let filter = arguments.filters.filter(&config, &arguments.state)?;
    let database = Database::open(&config)?;
    let (store, group) = (&database.store, &config.kafka.group_id);
    let mut left = if arguments.all {
        u32::MAX
    } else {
        arguments.limit
    };
    let (mut after, mut any) = (None, false);
    let more = loop {
        // One extra row shows whether there are more.
        let limit = left.saturating_add(1).min(PAGE);
        let mut page =
            database.ask(store.dead_letter_page(group, &filter, after.as_ref(), limit))?;
        let is_last = u32::try_from(page.len()).unwrap_or(u32::MAX) < limit;
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        let more = page.len() > wanted;
        page.truncate(wanted);
        left -= u32::try_from(page.len()).unwrap_or(left);
        after = page.last().map(|(_, place)| *place).or(after);
        let text = match arguments.output.json {
            true => page
                .iter()
                .map(|(stored, _)| line(&letters::summary(stored)))
                .collect(),
            false if page.is_empty() => String::new(),
            false => shown(
                &page.iter().map(|(stored, _)| stored).collect::<Vec<_>>(),
                !any,
            ),
        };
        any |= !page.is_empty();
        if output::print_part(&text)?.is_break() || more || is_last {
            break more;
        }
    };
    if !arguments.output.json && !any {
        output::print("no dead letters\n")?;
    }
    if more && !arguments.output.json {
        eprintln!("there are more; --limit and --all list them");
    }
    Ok(())
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

fn shown(page: &[&StoredDeadLetter], with_head: bool) -> String {
    let mut rows = match with_head {
        true => table(["id", "record", "code", "task", "state", "stored"]),
        false => output::headless_table(),
    };
    for stored in page {
        let letter = &stored.letter;
        rows.add_row([
            letter.id.to_string(),
            letter.message.position.to_string(),
            letter.code.clone(),
            letter
                .task_id
                .as_ref()
                .map_or("-", TaskId::as_str)
                .to_owned(),
            stored.state.name().to_owned(),
            to_rfc3339(stored.created_at),
        ]);
    }
    output::text(&rows)
}
