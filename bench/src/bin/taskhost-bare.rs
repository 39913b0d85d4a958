//! The `taskhost` command with decisions that are there already (`taskhost::plugin::Rules`): a contender of the benchmark only.

use std::process::ExitCode;

use clap::Parser;
use taskhost::cli::Cli;
use taskhost::plugin::{Rules, decide_by};

fn main() -> ExitCode {
    decide_by(Rules::Prepared);
    Cli::parse().run()
}
