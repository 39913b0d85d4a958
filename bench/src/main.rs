//! `taskhost-bench`: how fast the host does its work on this machine, beside other stacks that do the same.
//!
//! It starts a broker and a Postgres of its own and runs each contender as a process: `drain` says how fast it works off a backlog and
//! at what cost, `pace` how long a message takes at half of that, `rounds` what only the host does. Rounds are interleaved, each is
//! checked from outside (`tally`, `database`) and counts only if all is right, and each is written down as it ends (`ledger`), so that an
//! interrupted run goes on. `summary` makes the report of them.

mod arrivals;
mod contender;
mod database;
mod drain;
mod ledger;
mod load;
mod machine;
mod pace;
mod plan;
mod plots;
mod poison;
mod profile;
mod report;
mod rounds;
mod stream;
mod subject;
mod summary;
mod tally;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::contender::Contender;
use crate::plan::Plan;

/// Measure the host and other stacks: throughput, latency, processor time, memory, time to ready, pause of a swap.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  make bench\n  QUICK=1 make bench\n  make bench ARGS=\"--contenders taskhost --contenders seed --rounds 1\""
)]
struct Arguments {
    /// A short run of one round. Don't publish its figures.
    #[arg(long, env = "QUICK", value_parser = clap::builder::FalseyValueParser::new())]
    quick: bool,
    /// Discard the rounds of an interrupted run.
    #[arg(long, env = "FRESH", value_parser = clap::builder::FalseyValueParser::new())]
    fresh: bool,
    /// Messages in a drain round [200000; quick: 60000]. Slow contenders get a tenth.
    #[arg(long)]
    messages: Option<u64>,
    /// Rounds of each measurement [5; quick: 1].
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of a latency round, after a quarter of that time to warm up [20; quick: 5].
    #[arg(long)]
    seconds: Option<u64>,
    /// Messages a second for the latency rounds, instead of half of the contender's drain rate.
    #[arg(long)]
    rate: Option<f64>,
    /// Numbers of partitions to drain [1, 4, 16; quick: 4].
    #[arg(long)]
    partitions: Vec<i32>,
    /// The contenders [all that are built, except seed-concurrent].
    #[arg(long)]
    contenders: Vec<Contender>,
    /// Measure only these parts, such as drain, pace/spring or host/poison [everything].
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The host's binary [in the directory of this one].
    #[arg(long)]
    host: Option<PathBuf>,
    /// Directory of the built plugins.
    #[arg(long, default_value = "plugins/target/wasm32-wasip2/release")]
    plugins: PathBuf,
    /// Directory of the other contenders.
    #[arg(long, default_value = "bench/contenders")]
    contenders_dir: PathBuf,
    /// The file of the JSON report. The rounds are written beside it.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
    /// Also write the figures into this page.
    #[arg(long, num_args = 0..=1, default_missing_value = "docs/benchmarks.md")]
    write_docs: Option<PathBuf>,
    /// Measure nothing. Write a profile of the host's time to this folder: `flame.svg` and `stages.md`. Needs `perf`.
    #[arg(long, value_name = "FOLDER")]
    profile: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let stage = subject::Stage::start(
        arguments.host.clone(),
        &arguments.plugins,
        &arguments.contenders_dir,
    )?;
    if let Some(folder) = &arguments.profile {
        profile::run(&stage, arguments.messages.unwrap_or(400_000), folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan::of(&arguments, &stage)?;
    let path = arguments.report.with_file_name("rounds.jsonl");
    let mut ledger = ledger::Ledger::open(&path, plan.settings(&stage)?, arguments.fresh)?;
    plan.run(&stage, &mut ledger)?;
    let summary = summary::Summary::of(ledger.lines());
    let about = plan.about(&stage);
    let json = summary.json(&about, plan.partitions());
    std::fs::write(&arguments.report, serde_json::to_string_pretty(&json)?)?;
    let page = summary.markdown(&about, plan.contenders(), plan.partitions());
    print!("{page}");
    let folder = match &arguments.write_docs {
        Some(page) => page.with_file_name(""),
        None => arguments.report.with_file_name(""),
    };
    let plots = plots::draw(&folder, &summary, plan.contenders(), plan.partitions())?;
    if let Some(path) = &arguments.write_docs {
        summary::write_between_markers(path, &page, &plots)?;
    }
    eprintln!("written to {}", arguments.report.display());
    Ok(match summary.is_sound() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
