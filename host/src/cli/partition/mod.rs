//! `taskhost partition list|resume`: shows how far each partition is and why it is halted, and lets it try again.

mod divert;
mod reset;
mod which;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use taskhost_core::timestamp;

use which::{Which, find};

use crate::cli::database::Database;
use crate::cli::output::{self, table};
use crate::cli::{EXIT_CODES, Failure, Global, Output};
use crate::store::PartitionProgress;

/// The subcommands of `taskhost partition`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    List(List),
    Resume(Resume),
    Reset(reset::Arguments),
    Divert(divert::Arguments),
}

/// List how far the group's partitions are, which are halted, and why.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost partition list --halted\n  taskhost partition list --json | jq -r 'select(.state == \"halted\") | .topic, .partition'\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct List {
    /// Only halted partitions.
    #[arg(long)]
    halted: bool,
    #[command(flatten)]
    output: Output,
}

/// Let a halted partition try again, once the cause is corrected.
///
/// Nothing is skipped or repeated. If the problem remains, the partition halts again. Its host tries within a second.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost partition resume task-status 3\n  taskhost partition resume --all\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Resume {
    #[command(flatten)]
    which: Option<Which>,
    /// Every halted partition of the group.
    #[arg(long, conflicts_with_all = ["topic", "partition"], required_unless_present = "topic")]
    all: bool,
    #[command(flatten)]
    output: Output,
}

pub(in crate::cli) fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(arguments, global),
        Command::Resume(arguments) => resume(arguments, global),
        Command::Reset(arguments) => reset::run(arguments, global),
        Command::Divert(arguments) => divert::run(arguments, global),
    }
}

fn list(arguments: &List, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let database = Database::open(&config)?;
    let mut all = database.ask(database.store.snapshot(&config.kafka.group_id))?;
    all.retain(|one| !arguments.halted || one.halted.is_some());
    let text = match arguments.output.json {
        true => all.iter().map(|one| format!("{}\n", line(one))).collect(),
        false if all.is_empty() && arguments.halted => "no partition is halted\n".to_owned(),
        false if all.is_empty() => format!(
            "the group {} has no partitions yet: no host has run in it with this database\n",
            config.kafka.group_id
        ),
        false => shown(&all),
    };
    output::print(&text)
}

fn resume(arguments: &Resume, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let database = Database::open(&config)?;
    let group = &config.kafka.group_id;
    let wanted = arguments
        .which
        .as_ref()
        .map(|which| which.partition(&config));
    let resumed = database.ask(database.store.resume(group, wanted.as_ref()))?;
    if let (Some(wanted), true) = (&wanted, resumed.is_empty()) {
        // A missing partition is an error; one that isn't halted needs nothing.
        find(&database, &config, wanted)?;
    }
    let text = match (arguments.output.json, resumed.is_empty()) {
        (true, _) => resumed
            .iter()
            .map(|one| {
                format!(
                    "{}\n",
                    json!({"topic": &*one.topic, "partition": one.partition})
                )
            })
            .collect(),
        (false, true) => "nothing to do: not halted\n".to_owned(),
        (false, false) => resumed
            .iter()
            .map(|one| {
                format!("{one} is tried again; `taskhost partition list` shows the result\n")
            })
            .collect(),
    };
    output::print(&text)
}

fn state(one: &PartitionProgress) -> &'static str {
    match one {
        one if one.halted.is_some() => "halted",
        one if one.progress.next_offset.is_none() => "new",
        one if one.owners.is_empty() => "free",
        _ => "owned",
    }
}

fn line(one: &PartitionProgress) -> Value {
    let halted = one.halted.as_ref();
    json!({
        "topic": &*one.partition.topic,
        "partition": one.partition.partition,
        "state": state(one),
        "nextOffset": one.progress.next_offset,
        "batch": one.progress.batch,
        "published": one.progress.published,
        "unpublishedFrames": one.frames,
        "waiting": one.waiting,
        "consumed": one.counters.consumed,
        "code": halted.map(|halted| &halted.code),
        "reason": halted.map(|halted| &halted.reason),
        "haltedAt": halted.map(|halted| timestamp::to_rfc3339(halted.at)),
    })
}

fn shown(all: &[PartitionProgress]) -> String {
    let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
    let mut rows = table([
        "topic",
        "partition",
        "state",
        "next",
        "batch",
        "published",
        "waiting",
    ]);
    for one in all {
        rows.add_row([
            one.partition.topic.to_string(),
            one.partition.partition.to_string(),
            state(one).to_owned(),
            number(one.progress.next_offset),
            one.progress.batch.to_string(),
            number(one.progress.published),
            one.waiting.to_string(),
        ]);
    }
    let mut text = output::text(&rows);
    for one in all {
        if let Some(halted) = &one.halted {
            text.push_str(&format!(
                "\n{} is halted since {} ({}): {}\n",
                one.partition,
                timestamp::to_rfc3339(halted.at),
                halted.code,
                halted.reason
            ));
        }
    }
    text
}
