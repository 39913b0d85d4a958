//! `taskhost dlq cancel`: replays that are not to be decided after all.

use clap::Args;

use super::Chosen;
use super::sweep::Sweep;
use crate::cli::plugin_activate::by;
use crate::cli::{EXIT_CODES, Failure, Global, Output};
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
    let sweep = Sweep {
        chosen: &arguments.chosen,
        dry_run: arguments.dry_run,
        yes: arguments.yes,
        output: arguments.output,
        states: &[State::Replaying],
        done: "called back",
        field: "cancelled",
        others: "are not there or not on their way any more",
    };
    let (group, most) = (&config.kafka.group_id, config.dead_letters.replays_max);
    sweep.run(&config, |database, ids| {
        let cancelled = database.ask(database.store.cancel_replays(group, ids, most, &by()))?;
        Ok(cancelled.len())
    })
}
