//! `taskhost-bench`: how fast the host does its work on this machine, beside other stacks that do the same.
//!
//! It starts a broker and a Postgres of its own and runs each contender as a process: `drain` says how fast it works off a backlog and
//! at what cost, `pace` how long a message takes at half of that, `rounds` what only the host does. Rounds are interleaved, each is
//! checked from outside (`tally`, `database`) and counts only if all is right, and each is written down as it ends (`ledger`), so that an
//! interrupted run goes on. `summary` makes the report of them.

mod arguments;
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

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::plan::Plan;

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
