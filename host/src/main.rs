//! The `taskhost` command: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use taskhost::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
