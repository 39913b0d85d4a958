//! The `taskhost` command with the shipped plugins compiled in (`taskhost::plugin::Rules`): a contender of the benchmark only.

use std::process::ExitCode;

use clap::Parser;
use taskhost::cli::Cli;
use taskhost::plugin::{Rules, decide_by};

fn main() -> ExitCode {
    decide_by(Rules::Native);
    Cli::parse().run()
}
