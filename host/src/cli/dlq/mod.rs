//! `taskhost dlq`: shows, edits, replays, cancels, discards, exports and imports dead letters.

mod cancel;
mod chosen;
mod discard;
mod edit;
mod export;
mod import;
mod list;
mod replay;
mod show;
mod sweep;

use clap::Subcommand;

use super::{Failure, Global};

/// The subcommands of `taskhost dlq`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(list::Arguments),
    Show(show::Arguments),
    Edit(edit::Arguments),
    Replay(replay::Arguments),
    Cancel(cancel::Arguments),
    Discard(discard::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
}

pub(super) fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list::run(arguments, global),
        Command::Show(arguments) => show::run(arguments, global),
        Command::Edit(arguments) => edit::run(arguments, global),
        Command::Replay(arguments) => replay::run(arguments, global),
        Command::Cancel(arguments) => cancel::run(arguments, global),
        Command::Discard(arguments) => discard::run(arguments, global),
        Command::Export(arguments) => export::run(arguments, global),
        Command::Import(arguments) => import::run(arguments, global),
    }
}
