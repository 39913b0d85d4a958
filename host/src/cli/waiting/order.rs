//! `taskhost waiting retry` and `give-up`: orders that the partition's owner carries out.

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use crate::cli::confirm::confirm;
use crate::cli::database::Database;
use crate::cli::person::by;
use crate::cli::{EXIT_CODES, Failure, Global, Output, output};
use crate::clock;
use crate::store::Ordered;

/// Try waiting messages now instead of at their time.
///
/// Their plugin is asked once more. It spends no attempt of a deferral before its time. A message that waits for its turn
/// is tried once the messages before it are decided; a timer fires at its time. Neither can be tried now.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost waiting list --task order-17\n  taskhost waiting retry $id\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Retry {
    /// Ids from `taskhost waiting list`.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<Uuid>,
    #[command(flatten)]
    output: Output,
}

/// Give up messages and timers that wait: each becomes a dead letter with the code `given-up`.
///
/// Their plugin isn't asked, and what waits behind them goes on. The partition's owner does it in its next batch. One that
/// waits for its turn is given up when its turn comes. The dead letter can be replayed.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost waiting list --why stranded\n  taskhost waiting give-up $id --yes\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct GiveUp {
    /// Ids from `taskhost waiting list`.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<Uuid>,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) fn retry(arguments: &Retry, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let database = Database::open(&config)?;
    let (store, group) = (&database.store, &config.kafka.group_id);
    let ordered = database.ask(store.retry_waiting(group, &arguments.ids, clock::now()))?;
    let missed = "don't wait any more, or wait for their turn, or are timers";
    tell(
        &database,
        &ordered,
        &arguments.ids,
        "due now",
        missed,
        arguments.output,
    )
}

pub(super) fn give_up(arguments: &GiveUp, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let database = Database::open(&config)?;
    let (store, group) = (&database.store, &config.kafka.group_id);
    eprintln!("to be given up: {}", arguments.ids.len());
    confirm(arguments.yes)?;
    let by = by();
    let ordered = store.give_up_waiting(group, &arguments.ids, &by, clock::now());
    let ordered = database.ask(ordered)?;
    let missed = "don't wait any more";
    tell(
        &database,
        &ordered,
        &arguments.ids,
        "given up",
        missed,
        arguments.output,
    )
}

/// Tells the owners, and whoever asked.
fn tell(
    database: &Database,
    ordered: &Ordered,
    asked: &[Uuid],
    done: &str,
    missed: &str,
    output: Output,
) -> Result<(), Failure> {
    database.ask(database.store.notify(&ordered.keys))?;
    let count = ordered.ids.len();
    output::print(&match output.json {
        true => format!("{}\n", json!({"ordered": ordered.ids})),
        false => format!("{count} {done}\n"),
    })?;
    let left: Vec<String> = asked
        .iter()
        .filter(|id| !ordered.ids.contains(id))
        .map(ToString::to_string)
        .collect();
    match left.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(format!(
            "{} of {} {missed}: {}; `taskhost waiting list` shows what waits",
            left.len(),
            asked.len(),
            left.join(", ")
        ))),
    }
}
