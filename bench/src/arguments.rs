//! The command line of the benchmark.

use std::path::PathBuf;

use clap::Parser;

use crate::contender::Contender;

/// Measure the host and other stacks: throughput, latency, processor time, memory, time to ready, pause of a swap.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  make bench\n  QUICK=1 make bench\n  make bench ARGS=\"--contenders taskhost --contenders seed --rounds 1\""
)]
// Many fields: each is an option of the command line.
pub(crate) struct Arguments {
    /// A short run of one round. Don't publish its figures.
    #[arg(long, env = "QUICK", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) quick: bool,
    /// Discard the rounds of an interrupted run.
    #[arg(long, env = "FRESH", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) fresh: bool,
    /// Messages in a drain round [200000; quick: 60000]. Slow contenders get a tenth.
    #[arg(long)]
    pub(crate) messages: Option<u64>,
    /// Rounds of each measurement [5; quick: 1].
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Seconds of a latency round, after a quarter of that time to warm up [20; quick: 5].
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// Messages a second for the latency rounds, instead of half of the contender's drain rate.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Numbers of partitions to drain [1, 4, 16; quick: 4].
    #[arg(long)]
    pub(crate) partitions: Vec<i32>,
    /// The contenders [all that are built, except seed-concurrent].
    #[arg(long)]
    pub(crate) contenders: Vec<Contender>,
    /// Measure only these parts, such as drain, pace/spring or host/poison [everything].
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// The host's binary [in the directory of this one].
    #[arg(long)]
    pub(crate) host: Option<PathBuf>,
    /// Directory of the built plugins.
    #[arg(long, default_value = "plugins/target/wasm32-wasip2/release")]
    pub(crate) plugins: PathBuf,
    /// Directory of the other contenders.
    #[arg(long, default_value = "bench/contenders")]
    pub(crate) contenders_dir: PathBuf,
    /// The file of the JSON report. The rounds are written beside it.
    #[arg(long, default_value = "target/bench/report.json")]
    pub(crate) report: PathBuf,
    /// Also write the figures into this page.
    #[arg(long, num_args = 0..=1, default_missing_value = "docs/benchmarks.md")]
    pub(crate) write_docs: Option<PathBuf>,
    /// Measure nothing. Write a profile of the host's time to this folder: `flame.svg` and `stages.md`. Needs `perf`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) profile: Option<PathBuf>,
}
