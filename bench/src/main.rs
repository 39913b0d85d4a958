//! `taskhost-bench`: what the host does on this machine, measured from outside.
//!
//! It starts a broker and a Postgres of its own, runs the host's binary, sends the document's messages and
//! reads the task events as a `read_committed` reader. Every figure is one of several rounds, told as
//! minimum, median and maximum, and counts only if every message's event arrived exactly once.

mod load;
mod poison;
mod report;
mod rounds;
mod subject;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// A backlog, with 1 and 4 partitions.
    Throughput,
    /// From sending to the event.
    Latency,
    /// A change of plugin under load.
    Swap,
    /// A backlog with poison in it.
    Poison,
}

/// Measure the host: throughput with 1 and 4 partitions, latency, memory, time to ready, pause of a swap, cost of poison.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  make bench\n  taskhost-bench --messages 20000 --rounds 1")]
struct Arguments {
    /// Messages of a throughput round.
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a latency round.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Measure these only; everything if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measurement>,
    /// The host's binary; beside this one if not given.
    #[arg(long)]
    host: Option<PathBuf>,
    /// Directory of the built plugins.
    #[arg(long, default_value = "plugins/target/wasm32-wasip2/release")]
    plugins: PathBuf,
    /// Where the report goes: JSON.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let stage = subject::Stage::start(arguments.host, &arguments.plugins)?;
    let mut report = report::Report::default();
    let wanted = |one: Measurement| arguments.only.is_empty() || arguments.only.contains(&one);
    for round in 1..=arguments.rounds {
        for partitions in [1, 4]
            .iter()
            .copied()
            .filter(|_| wanted(Measurement::Throughput))
        {
            eprintln!(
                "round {round} of {}: throughput, {partitions} partition(s)",
                arguments.rounds
            );
            rounds::throughput(&stage, &mut report, partitions, arguments.messages)?;
        }
        if wanted(Measurement::Latency) {
            eprintln!(
                "round {round} of {}: latency at 100 messages a second",
                arguments.rounds
            );
            rounds::latency(&stage, &mut report, arguments.seconds)?;
        }
        if wanted(Measurement::Swap) {
            eprintln!("round {round} of {}: pause of a swap", arguments.rounds);
            rounds::swap(&stage, &mut report)?;
        }
        if wanted(Measurement::Poison) {
            eprintln!("round {round} of {}: poison", arguments.rounds);
            poison::rounds(&stage, &mut report, arguments.messages, round)?;
        }
    }
    print!("{}", report.table());
    report.write(&arguments.report)?;
    eprintln!("written to {}", arguments.report.display());
    Ok(())
}
