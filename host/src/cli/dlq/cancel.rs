//! `taskhost dlq cancel`: replays that are not to be decided after all.

use clap::Args;
use serde_json::json;

use super::{Chosen, Walk};
use crate::cli::database::Database;
use crate::cli::partition::confirm;
use crate::cli::plugin_activate::by;
use crate::cli::{EXIT_CODES, Failure, Global, Output, output};
use crate::store::State;

/// Call replays back that no host has decided yet, such as those that wait behind an open breaker.
///
/// Each is open again, or parked, as it was before. One that a host decides at this moment is left to it.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq cancel $id\n  taskhost dlq cancel --code plugin-trap --yes\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
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
    let mut walk = Walk::of(&arguments.chosen, &database, &config, &[State::Replaying])?;
    let count = walk.count()?;
    if arguments.dry_run {
        return output::print(&match arguments.output.json {
            true => format!("{}\n", json!({"dryRun": true, "count": count})),
            false => format!("{count} to be called back\n"),
        });
    }
    // Those that are named one by one were meant.
    if arguments.chosen.ids.is_empty() && count > 0 {
        eprintln!("to be called back: {count}");
        confirm(arguments.yes)?;
    }
    let most = config.dead_letters.replays_max;
    let done = walk.each(|ids| {
        let (store, group) = (&database.store, &config.kafka.group_id);
        let cancelled = database.ask(store.cancel_replays(group, ids, most, &by()))?;
        Ok(cancelled.len())
    })?;
    output::print(&match arguments.output.json {
        true => format!("{}\n", json!({"cancelled": done.changed})),
        false => format!("{} called back\n", done.changed),
    })?;
    match arguments.chosen.ids.is_empty() || done.changed == done.named {
        true => Ok(()),
        false => Err(Failure::Failed(format!(
            "{} of {} are not there or not on their way any more; `taskhost dlq show` tells",
            done.named - done.changed,
            done.named
        ))),
    }
}
