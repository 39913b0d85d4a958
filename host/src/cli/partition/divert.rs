//! `taskhost partition divert`: sets aside the outgoing message that halts its partition because its topic refuses it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;
use taskhost_core::dead_letter::{DeadLetter, Source, Stage};
use taskhost_core::frame::Frame;
use taskhost_core::record::{Message, Record, TopicPartition};
use uuid::Uuid;

use super::which::{Which, find};
use crate::cli::confirm::confirm;
use crate::cli::database::Database;
use crate::cli::{EXIT_CODES, Failure, Global, Output, broker, output};
use crate::config::Config;
use crate::kafka::{Admin, Limits};
use crate::store;

/// Set aside the outgoing message that halts a partition because Kafka refuses it permanently.
///
/// The message is kept whole as a dead letter with the code unpublishable-message. Everything else of its batch is
/// sent. The command first lists the messages to set aside, then asks. They are the batch's messages to the refusing
/// topic that are larger than the topic takes or, if there is none, all of the batch's messages to that topic.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost partition divert task-status 3\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Set aside this message of the batch instead, by its number in the batch, from 0; may be repeated.
    #[arg(long, value_name = "NUMBER")]
    message: Vec<usize>,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

pub(in crate::cli) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let partition = arguments.which.partition(&config);
    let database = Database::open(&config)?;
    let (key, seen) = find(&database, &config, &partition)?;
    let Some((topic, batch)) = seen
        .halted
        .as_ref()
        .and_then(|halted| halted.message.clone())
    else {
        return Err(Failure::Failed(format!(
            "{partition} is not halted by a message that Kafka refuses; `taskhost partition list` shows the halted partitions"
        )));
    };
    let frames = database.ask(database.store.frames(&key, batch, batch))?;
    let frame = frames.into_iter().next().ok_or_else(|| {
        Failure::Failed(format!("the frame of batch {batch} is not in the outbox"))
    })?;
    let limits = limits(&config, &database, &topic)?;
    let chosen = choose(&frame, &topic, &limits, &arguments.message)?;
    eprintln!(
        "of the {} messages of batch {batch}, these are not sent, but kept as dead letters:",
        frame.records.len()
    );
    for number in &chosen {
        eprintln!("- {number}: {}", describe(&frame.records[*number]));
    }
    confirm(arguments.yes)?;
    let reason = seen.halted.map(|halted| halted.reason).unwrap_or_default();
    let letters: Vec<DeadLetter> = chosen
        .iter()
        .map(|number| letter(&frame.records[*number], &reason))
        .collect();
    let rest = without(&frame, &chosen);
    match database
        .runtime
        .block_on(database.store.divert(&key, &rest, &letters))
    {
        Ok(()) => {}
        Err(store::Error::Lost) => {
            return Err(Failure::Failed(format!(
                "nothing changed: {partition} has moved on meanwhile; look at it again"
            )));
        }
        Err(error) => return Err(database.failed(&error)),
    }
    let ids: Vec<String> = letters.iter().map(|letter| letter.id.to_string()).collect();
    output::print(&match arguments.output.json {
        true => ids
            .iter()
            .map(|id| format!("{}\n", json!({"id": id, "topic": topic, "batch": batch})))
            .collect(),
        false => format!(
            "{partition} goes on; kept as {}: {}\n",
            match ids.len() {
                1 => "dead letter",
                _ => "dead letters",
            },
            ids.join(" ")
        ),
    })
}

/// The largest record that the topic takes, if it exists.
fn limits(config: &Config, database: &Database, topic: &str) -> Result<Limits, Failure> {
    let settings = broker::reach(config)?.settings;
    let admin = Admin::new(&settings, broker::patience(config))
        .map_err(|error| Failure::of("kafka", &error))?;
    let limits = Limits::new();
    // If the topic is missing, or this user may not read its settings, assume that it refuses everything.
    if let Ok(known) = database.runtime.block_on(admin.limits(&[topic])) {
        limits.update(known);
    }
    Ok(limits)
}

/// Numbers of the messages to set aside.
fn choose(
    frame: &Frame,
    topic: &str,
    limits: &Limits,
    named: &[usize],
) -> Result<Vec<usize>, Failure> {
    if let Some(wrong) = named.iter().find(|number| **number >= frame.records.len()) {
        return Err(Failure::Usage(format!(
            "there is no message {wrong}: the batch has {}, from 0",
            frame.records.len()
        )));
    }
    if !named.is_empty() {
        let mut named = named.to_vec();
        named.sort_unstable();
        named.dedup();
        return Ok(named);
    }
    let to_topic = |number: &usize| frame.records[*number].topic == topic;
    let all: Vec<usize> = (0..frame.records.len()).filter(to_topic).collect();
    let large: Vec<usize> = all
        .iter()
        .copied()
        .filter(|number| limits.broken_by(&frame.records[*number]).is_some())
        .collect();
    match (large.is_empty(), all.is_empty()) {
        (false, _) => Ok(large),
        (true, false) => Ok(all),
        (true, true) => Err(Failure::Failed(format!(
            "batch {} has no message to {topic}",
            frame.batch
        ))),
    }
}

fn without(frame: &Frame, chosen: &[usize]) -> Frame {
    let kept = frame
        .records
        .iter()
        .enumerate()
        .filter(|(number, _)| !chosen.contains(number));
    Frame {
        batch: frame.batch,
        next_offset: frame.next_offset,
        records: kept.map(|(_, record)| record.clone()).collect(),
    }
}

fn describe(record: &Record) -> String {
    let key = record.key.as_deref().map_or("no key".to_owned(), |key| {
        format!("key {}", String::from_utf8_lossy(key))
    });
    format!("to {}, {key}, {} bytes", record.topic, record.size())
}

fn letter(record: &Record, reason: &str) -> DeadLetter {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
    DeadLetter {
        id: Uuid::new_v4(),
        message: Arc::new(Message {
            // It has no position in its topic: it was never sent.
            position: TopicPartition::new(&*record.topic, -1).at(-1),
            timestamp: record.timestamp.unwrap_or(-1),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        }),
        code: "unpublishable-message".to_owned(),
        reason: reason.to_owned(),
        backtrace: None,
        stage: Stage::Publish,
        attempts: 1,
        task_id: None,
        route: None,
        plugin: None,
        failed_at: now,
        source: Source::Outgoing,
        replays: 0,
        sequence: None,
        holds: false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn frame(sizes: &[(&str, usize)]) -> Frame {
        let record = |(topic, bytes): &(&str, usize)| Record {
            topic: (*topic).to_owned(),
            key: None,
            value: Some(vec![0; *bytes]),
            headers: Vec::new(),
            timestamp: None,
        };
        Frame {
            batch: 7,
            next_offset: 70,
            records: sizes.iter().map(record).collect(),
        }
    }

    #[test]
    fn what_is_too_large_is_set_aside_and_else_all_that_goes_to_the_topic() {
        let frame = frame(&[("a", 10), ("b", 10), ("b", 5000), ("b", 20)]);
        let limits = Limits::new();
        let choose = |limits: &Limits, named: &[usize]| choose(&frame, "b", limits, named);
        assert_eq!(choose(&limits, &[]).expect("some"), [1, 2, 3]);
        limits.update(HashMap::from([("b".to_owned(), 1000)]));
        assert_eq!(choose(&limits, &[]).expect("some"), [2]);
        assert_eq!(choose(&limits, &[3, 0, 3]).expect("some"), [0, 3]);
        assert!(choose(&limits, &[4]).is_err());
        assert_eq!(without(&frame, &[2]).records.len(), 3);
    }
}
