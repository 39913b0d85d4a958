//! `taskhost migrate`: the database's schema brought up to this version.

use clap::Args;

use super::{EXIT_CODES, Failure, Global, Output};

/// Bring the database's schema up to this version, and say what was done.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  DATABASE_URL=postgres://taskhost@db/taskhost taskhost migrate\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) output: Output,
}

pub(super) fn run(_arguments: &Arguments, _global: &Global) -> Result<(), Failure> {
    Err(Failure::not_here("migrate"))
}
