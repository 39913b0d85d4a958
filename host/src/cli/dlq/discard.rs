//! `taskhost dlq discard`: gives dead letters up permanently.

use clap::Args;

use super::chosen::Chosen;
use super::sweep::Sweep;
use crate::cli::person::by;
use crate::cli::{EXIT_CODES, Failure, Global, Output};
use crate::store::State;

/// Give dead letters up permanently: those that are open or parked.
///
/// They are kept until the retention removes them, and can still be shown.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq discard --code not-json --until 7d --reason 'test traffic' --yes\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
    /// Why, for people who look at it later.
    #[arg(long)]
    reason: String,
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
        states: &[State::Open, State::Parked],
        done: "discarded",
        field: "discarded",
        others: "don't exist, or are neither open nor parked",
    };
    let (group, reason) = (&config.kafka.group_id, &arguments.reason);
    sweep.run(&config, |database, ids| {
        let store = &database.store;
        let done = database.ask(store.discard_dead_letters(group, ids, &by(), reason))?;
        Ok(done.len())
    })
}
