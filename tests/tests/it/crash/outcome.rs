//! All that a run left behind, in a form in which two runs of one input are equal.
//!
//! Left out is what may differ between two undisturbed runs, and nothing else: trace and span ids, times of the wall
//! clock (when something failed; the timestamps of records that the host sent), the offsets of a topic that the host writes
//! to as well (its transactions take offsets too), and what is derived from offset or topic id (ids of dead letters). Real
//! names become logical ones. Lines are sorted; what order means is checked by [`assert_order`].

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use taskhost_tests::{Record, World};

/// The topic that the host does not write to.
const REQUESTS: &str = "requests-web-crawl";

/// Headers of dead letters that differ between runs.
const OWN_TO_A_RUN: [&str; 6] = [
    "traceId",
    "spanId",
    "traceparent",
    "__connect.errors.offset",
    "taskhost-dlq-id",
    "taskhost-dlq-first-failed-at",
];

/// Each part's name and its lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome(BTreeMap<&'static str, Vec<String>>);

impl Outcome {
    /// What a world has come to. Everything is decided and nothing waits.
    pub(crate) fn of(world: &World) -> Self {
        let suffix = world.topic("");
        let text = |line: String| line.replace(&suffix, "");
        let mut parts = BTreeMap::new();
        let mut part = |name, lines: Vec<String>| {
            let mut lines: Vec<String> = lines.into_iter().map(text).collect();
            lines.sort();
            parts.insert(name, lines);
        };
        part(
            "tasks",
            world
                .tasks()
                .iter()
                .map(|task| format!("{task:?}"))
                .collect(),
        );
        part("history", history(world));
        part("task-events", sent(&world.read("task-events")));
        part("new tasks sent", sent(&own(world.read("task-status"))));
        part("dead letters", dead_letters(world));
        let letters = ["requests-web-crawl.dlq", "task-status.dlq"];
        part(
            "dead letter topics",
            letters
                .iter()
                .flat_map(|topic| letters_sent(&world.read(topic)))
                .collect(),
        );
        part("counts", counts(world));
        Self(parts)
    }

    /// Fails with the first differences of each part, if there are any.
    pub(crate) fn assert_is(&self, expected: &Self) {
        let differences = expected.0.iter().filter_map(|(name, expected)| {
            let found = &self.0[name];
            let (missing, extra) = (without(expected, found), without(found, expected));
            (!missing.is_empty() || !extra.is_empty()).then(|| {
                format!(
                    "{name}: {} lines are missing, {} should not be there; the first of them:\n{:#?}\n{:#?}\n",
                    missing.len(),
                    extra.len(),
                    &missing[..missing.len().min(3)],
                    &extra[..extra.len().min(3)],
                )
            })
        });
        let differences: String = differences.collect();
        assert!(differences.is_empty(), "{differences}");
    }

    /// How many lines a part has.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.0[part].len()
    }

    /// One line about it.
    pub(crate) fn summary(&self) -> String {
        let counts = self
            .0
            .iter()
            .map(|(name, lines)| format!("{name} {}", lines.len()));
        counts.collect::<Vec<_>>().join(", ")
    }
}

/// The lines of one list that another lacks, counting repeated ones.
fn without(lines: &[String], others: &[String]) -> Vec<String> {
    let mut left: HashMap<&str, i64> = HashMap::new();
    others
        .iter()
        .for_each(|line| *left.entry(line).or_default() += 1);
    let mut lacking = Vec::new();
    for line in lines {
        let left = left.entry(line).or_default();
        *left -= 1;
        if *left < 0 {
            lacking.push(line.clone());
        }
    }
    lacking
}

fn history(world: &World) -> Vec<String> {
    let requests = world.topic(REQUESTS);
    let line = |mut row: taskhost_tests::EventRow| {
        if row.cause_topic != requests {
            row.cause_offset = 0;
        }
        row.trace_id.clear();
        format!("{row:?}")
    };
    world.all_events().into_iter().map(line).collect()
}

fn dead_letters(world: &World) -> Vec<String> {
    let requests = world.topic(REQUESTS);
    let line = |mut row: taskhost_tests::DeadLetterRow| {
        if row.record_topic != requests {
            row.record_offset = 0;
        }
        row.id = uuid::Uuid::nil();
        format!("{row:?}")
    };
    world.dead_letters().into_iter().map(line).collect()
}

/// The host's own records among those of a topic that others write to as well: each has a trace.
fn own(records: Vec<Record>) -> Vec<Record> {
    records
        .into_iter()
        .filter(|record| record.header("traceparent").is_some())
        .collect()
}

/// Records that the host made.
fn sent(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let mut value = record.json();
        for own in ["traceId", "spanId"] {
            value["headers"][own] = Value::Null;
        }
        format!(
            "{} {} {value} {:?}",
            record.partition,
            record.key_text(),
            headers(record)
        )
    };
    records.iter().map(line).collect()
}

/// Records that the host passed on as they came.
fn letters_sent(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let Record {
            partition,
            timestamp,
            key,
            value,
            ..
        } = record;
        format!(
            "{partition} {timestamp} {:?} {:?} {:?}",
            text(key),
            text(value),
            headers(record)
        )
    };
    records.iter().map(line).collect()
}

fn headers(record: &Record) -> Vec<String> {
    let kept = record
        .headers
        .iter()
        .filter(|(name, _)| !OWN_TO_A_RUN.contains(&name.as_str()));
    kept.map(|(name, value)| format!("{name}={:?}", text(value)))
        .collect()
}

/// Bytes for people, without two of them looking alike.
fn text(bytes: &Option<Vec<u8>>) -> Option<String> {
    bytes.as_ref().map(|bytes| bytes.escape_ascii().to_string())
}

/// What became of each partition's records. How many of them waited meanwhile is the run's own.
fn counts(world: &World) -> Vec<String> {
    let line = |row: taskhost_tests::ProgressRow| {
        let (topic, partition) = (&row.topic, row.partition);
        assert_eq!(
            row.consumed,
            row.applied + row.ignored + row.dead_letters,
            "{topic} {partition}: {row:?}"
        );
        format!(
            "{topic} {partition}: {} applied, {} ignored, {} dead",
            row.applied, row.ignored, row.dead_letters
        )
    };
    world.progress().into_iter().map(line).collect()
}

/// Messages of one task caused through one partition are in order, and none is there twice.
pub(crate) fn assert_order(world: &World) {
    let mut last: HashMap<String, i64> = HashMap::new();
    for record in world.read("task-events") {
        let body = &record.json()["message"];
        let (task, version) = (
            record.key_text(),
            body["version"].as_i64().expect("a version"),
        );
        // Its creation may have come through another partition than what follows.
        let source = match task.starts_with("requested-") && version == 1 {
            true => format!("{task} created"),
            false => task,
        };
        let before = last.insert(source.clone(), version);
        assert!(
            before.is_none_or(|before| before < version),
            "{source}: {version} comes after {before:?}"
        );
    }
}
