//! `taskhost dlq cancel`: cancels replays that no host has decided yet.

use clap::Args;

use super::chosen::Chosen;
use super::sweep::Sweep;
use crate::cli::person::by;
use crate::cli::{EXIT_CODES, Failure, Global, Output};
use crate::store::State;

/// Cancel replays that no host has decided yet, such as those that wait behind an open breaker.
///
/// Each dead letter is open again, or parked, as it was before. A replay that a host decides at this moment is not
/// cancelled.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq cancel $id\n  taskhost dlq cancel --code plugin-trap --yes\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
    /// Only print their number.
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
        done: "cancelled",
        field: "cancelled",
        others: "don't exist, or have no replay to cancel",
    };
    let (group, most) = (&config.kafka.group_id, config.dead_letters.replays_max);
    sweep.run(&config, |database, ids| {
        let cancelled = database.ask(database.store.cancel_replays(group, ids, most, &by()))?;
        Ok(cancelled.len())
    })
}
