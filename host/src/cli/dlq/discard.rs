//! `taskhost dlq discard`: dead letters that nobody wants to be decided.

use clap::Args;
use serde_json::json;

use super::{Chosen, Walk};
use crate::cli::database::Database;
use crate::cli::partition::confirm;
use crate::cli::plugin_activate::by;
use crate::cli::{EXIT_CODES, Failure, Global, Output, output};
use crate::store::State;

/// Give dead letters up for good: those that are open or parked.
///
/// They are kept until the retention removes them, and can still be looked at.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq discard --code not-json --until 7d --reason 'test traffic' --yes\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
    /// Why, for those who look at it later.
    #[arg(long)]
    reason: String,
    /// Only say how many there are.
    #[arg(long)]
    dry_run: bool,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    arguments.chosen.check()?;
    let database = Database::open(&config)?;
    let states = [State::Open, State::Parked];
    let mut walk = Walk::of(&arguments.chosen, &database, &config, &states)?;
    let count = walk.count()?;
    if arguments.dry_run {
        return output::print(&match arguments.output.json {
            true => format!("{}\n", json!({"dryRun": true, "count": count})),
            false => format!("{count} to be discarded\n"),
        });
    }
    // Those that are named one by one were meant.
    if arguments.chosen.ids.is_empty() && count > 0 {
        eprintln!("to be discarded: {count}");
        confirm(arguments.yes)?;
    }
    let done = walk.each(|ids| {
        let (store, group) = (&database.store, &config.kafka.group_id);
        let done =
            database.ask(store.discard_dead_letters(group, ids, &by(), &arguments.reason))?;
        Ok(done.len())
    })?;
    output::print(&match arguments.output.json {
        true => format!("{}\n", json!({"discarded": done.changed})),
        false => format!("{} discarded\n", done.changed),
    })?;
    match arguments.chosen.ids.is_empty() || done.changed == done.named {
        true => Ok(()),
        false => Err(Failure::Failed(format!(
            "{} of {} are not there, or neither open nor parked; `taskhost dlq show` tells",
            done.named - done.changed,
            done.named
        ))),
    }
}
