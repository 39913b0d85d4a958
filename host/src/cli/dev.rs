//! `taskhost dev`: the host with a broker and a database of its own.

use clap::Args;

use super::{EXIT_CODES, Failure, Global};

/// Run the host with a Kafka and a Postgres of its own, for trying things out on this machine.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dev\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, _global: &Global) -> Result<(), Failure> {
    Err(Failure::not_here("dev"))
}
