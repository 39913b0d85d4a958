//! The `taskhost` command with guards that can be switched off (`taskhost::mutant`): for tests of the tests only.

use std::process::ExitCode;

use clap::Parser;
use taskhost::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
