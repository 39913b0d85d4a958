//! `taskhost waiting`: what waits in Postgres, and orders for it that its owner carries out.

mod list;
mod order;

use clap::Subcommand;

use super::{Failure, Global};

/// The subcommands of `taskhost waiting`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(list::Arguments),
    Retry(order::Retry),
    GiveUp(order::GiveUp),
}

pub(super) fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list::run(arguments, global),
        Command::Retry(arguments) => order::retry(arguments, global),
        Command::GiveUp(arguments) => order::give_up(arguments, global),
    }
}
