//! `taskhost test-task-updates`: a task led through its life, and what became of it.

use clap::Args;

use super::{EXIT_CODES, Failure, Global, Output};

/// Create a task, report it started and completed, and wait until the host has decided all of it.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost test-task-updates --error --timeout 10\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// Report an error instead of a completion.
    #[arg(long)]
    pub(super) error: bool,
    /// How long to wait for the host, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(super) timeout: u64,
    #[command(flatten)]
    pub(super) output: Output,
}

pub(super) fn run(_arguments: &Arguments, _global: &Global) -> Result<(), Failure> {
    Err(Failure::not_here("test-task-updates"))
}
