//! `taskhost partition list|resume`: shows how far each partition is and why it is halted, and lets it try again.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use taskhost_core::record::TopicPartition;
use taskhost_core::timestamp;

use super::database::Database;
use super::output::{self, table};
use super::{EXIT_CODES, Failure, Global, Output, partition_divert, partition_reset};
use crate::config::Config;
use crate::store::{Key, PartitionProgress};

/// The subcommands of `taskhost partition`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(List),
    Resume(Resume),
    Reset(partition_reset::Arguments),
    Divert(partition_divert::Arguments),
}

/// List how far the group's partitions are, which are halted, and why.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost partition list --halted\n  taskhost partition list --json | jq -r 'select(.state == \"halted\") | .topic, .partition'\n\n{EXIT_CODES}"))]
pub(super) struct List {
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
pub(super) struct Resume {
    #[command(flatten)]
    which: Option<Which>,
    /// Every halted partition of the group.
    #[arg(long, conflicts_with_all = ["topic", "partition"], required_unless_present = "topic")]
    all: bool,
    #[command(flatten)]
    output: Output,
}

/// A partition on the command line.
#[derive(Args, Clone, Debug)]
pub(super) struct Which {
    /// The topic, by its name in Kafka or in the routes.
    #[arg(requires = "partition")]
    topic: String,
    /// The partition's number.
    partition: i32,
}

impl Which {
    pub(super) fn partition(&self, config: &Config) -> TopicPartition {
        let routed = config.routes.iter().find(|route| route.topic == self.topic);
        let topic = routed.map_or(&self.topic, |route| &route.real_topic);
        TopicPartition::new(&**topic, self.partition)
    }
}

pub(super) fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(arguments, global),
        Command::Resume(arguments) => resume(arguments, global),
        Command::Reset(arguments) => partition_reset::run(arguments, global),
        Command::Divert(arguments) => partition_divert::run(arguments, global),
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

/// A partition's row, which must be there.
pub(super) fn find(
    database: &Database,
    config: &Config,
    partition: &TopicPartition,
) -> Result<(Key, PartitionProgress), Failure> {
    let group = config.kafka.group_id.as_str();
    let all = database.ask(database.store.snapshot(group))?;
    let found = all.into_iter().find(|one| one.partition == *partition);
    let key = Key::new(group, partition.clone());
    found.map(|found| (key, found)).ok_or_else(|| {
        Failure::Failed(format!(
            "the group {group} has no partition {partition}; `taskhost partition list` shows its partitions"
        ))
    })
}

/// Asks whether to go on, unless `--yes` was given. Only "y" and "yes" count as yes.
pub(super) fn confirm(yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "nothing changed: there is no terminal to ask on; --yes goes on without asking"
                .to_owned(),
        ));
    }
    eprint!("Go on? [y/N] ");
    let mut answer = String::new();
    let asked = io::stderr()
        .flush()
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::Failed("nothing changed".to_owned())),
    }
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
