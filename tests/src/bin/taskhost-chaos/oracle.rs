//! What must be, computed from the input topics alone by the few rules of the contract. Nothing of the host is used.
//!
//! A task's status messages stand in one partition, and so do its requests (`load`): the requests create the tasks, then
//! each partition of `task-status` is gone through in order. A message whose task is created through the requests is
//! never too early: it waits for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use taskhost_tests::Record;

use crate::load::{REQUESTS, STATUS};

/// Where a record stands: logical topic, partition, offset.
pub(crate) type Place = (&'static str, i32, i64);

/// A task as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) status: &'static str,
    pub(crate) version: i64,
    /// What it ended with.
    said: Option<String>,
}

/// One line of a task's history, and the task event that tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) kind: &'static str,
    pub(crate) from: Option<&'static str>,
    pub(crate) to: &'static str,
    pub(crate) cause: Place,
}

/// How the records of a partition must have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) applied: i64,
    pub(crate) ignored: i64,
    pub(crate) dead_letters: i64,
    pub(crate) waiting: i64,
}

/// All that must be.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) tasks: BTreeMap<String, Task>,
    /// By task and version.
    pub(crate) history: BTreeMap<(String, i64), Step>,
    /// Codes by the record that was given up on.
    pub(crate) dead_letters: BTreeMap<Place, &'static str>,
    pub(crate) counts: BTreeMap<(&'static str, i32), Counts>,
    /// Tasks that `task-status` must be told of, by the host, once each.
    pub(crate) announced: BTreeSet<String>,
}

/// What becomes of a record.
enum Outcome {
    Applied,
    Ignored,
    DeadLetter(&'static str),
    Waiting,
}

use Outcome::{Applied, DeadLetter, Ignored, Waiting};

impl Expected {
    /// Of all records of both topics, partition by partition and in order.
    pub(crate) fn of(requests: &[Record], status: &[Record]) -> Self {
        let mut expected = Self::default();
        for record in requests {
            let place = (REQUESTS, record.partition, record.offset);
            let outcome = expected.requested(record, place);
            expected.count(place, &outcome);
        }
        for record in status {
            let place = (STATUS, record.partition, record.offset);
            let outcome = expected.updated(record, place);
            expected.count(place, &outcome);
        }
        expected
    }

    fn count(&mut self, place: Place, outcome: &Outcome) {
        let counts = self.counts.entry((place.0, place.1)).or_default();
        match outcome {
            Applied => counts.applied += 1,
            Ignored => counts.ignored += 1,
            Waiting => counts.waiting += 1,
            DeadLetter(code) => {
                counts.dead_letters += 1;
                self.dead_letters.insert(place, code);
            }
        }
    }

    fn requested(&mut self, record: &Record, place: Place) -> Outcome {
        let value = match json(record) {
            Ok(value) => value,
            Err(code) => return DeadLetter(code),
        };
        let (id, body) = (text(&value["headers"]["requestId"]), &value["message"]);
        let Some(id) = id else {
            return DeadLetter("task-id-missing");
        };
        if text(&body["userEmail"]).is_none_or(|email| !email.contains('@')) {
            return DeadLetter("invalid-email");
        }
        if text(&body["userQuery"]).is_none_or(|query| query.trim().is_empty()) {
            return DeadLetter("query-blank");
        }
        if self.tasks.contains_key(&id) {
            return Ignored;
        }
        self.announced.insert(id.clone());
        self.step(&id, "new", None, "task.created", place);
        Applied
    }

    fn updated(&mut self, record: &Record, place: Place) -> Outcome {
        let value = match json(record) {
            Ok(value) => value,
            Err(code) => return DeadLetter(code),
        };
        let body = if value["message"].is_object() {
            &value["message"]
        } else {
            &value
        };
        let named = [
            text(&body["taskId"]),
            text(&value["headers"]["taskId"]),
            record.header("taskId"),
        ];
        let named: BTreeSet<String> = named.into_iter().flatten().collect();
        let id = match (named.len(), named.into_iter().next()) {
            (1, Some(id)) => id,
            (0, _) if !record.key_text().is_empty() => record.key_text(),
            (0, _) => return DeadLetter("task-id-missing"),
            _ => return DeadLetter("task-id-mismatch"),
        };
        let (result, error) = (text(&body["result"]), text(&body["error"]));
        let found = self.tasks.get(&id).cloned();
        let is = found.as_ref().map(|task| task.status);
        let said = |now: &Option<String>| found.as_ref().is_some_and(|task| task.said == *now);
        match (text(&body["status"]).as_deref(), is) {
            (Some("new"), None) => self.step(&id, "new", None, "task.created", place),
            (Some("started" | "completed" | "error"), None) => return Waiting,
            (Some("started"), Some("new")) => {
                self.step(&id, "started", None, "task.started", place)
            }
            (Some("new" | "started"), Some(_)) => return Ignored,
            (Some("completed"), Some("new" | "started")) => {
                self.step(&id, "completed", result, "task.completed", place)
            }
            (Some("error"), Some("new" | "started")) => {
                self.step(&id, "error", error, "task.failed", place)
            }
            (Some("completed"), Some("completed")) if said(&result) => return Ignored,
            (Some("error"), Some("error")) if said(&error) => return Ignored,
            (Some("completed" | "error"), Some(_)) => return DeadLetter("illegal-transition"),
            _ => return DeadLetter("unknown-status"),
        }
        Applied
    }

    fn step(
        &mut self,
        id: &str,
        to: &'static str,
        said: Option<String>,
        kind: &'static str,
        cause: Place,
    ) {
        let before = self.tasks.get(id);
        let (from, version) = (
            before.map(|task| task.status),
            before.map_or(1, |task| task.version + 1),
        );
        let step = Step {
            kind,
            from,
            to,
            cause,
        };
        self.history.insert((id.to_owned(), version), step);
        self.tasks.insert(
            id.to_owned(),
            Task {
                status: to,
                version,
                said,
            },
        );
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The value as a JSON object, or the code of why it is none.
fn json(record: &Record) -> Result<Value, &'static str> {
    let bytes = record.value.as_deref().ok_or("tombstone")?;
    if bytes.is_empty() {
        return Err("empty-value");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "not-utf8")?;
    let value: Value = serde_json::from_str(text).map_err(|_| "not-json")?;
    match text.contains(r"\u0000") {
        true => Err("nul-character"),
        false if value.is_object() => Ok(value),
        false => Err("not-an-object"),
    }
}

/// How often each of them is there.
pub(crate) fn times<T: std::hash::Hash + Eq>(all: impl IntoIterator<Item = T>) -> HashMap<T, u64> {
    let mut times = HashMap::new();
    all.into_iter()
        .for_each(|one| *times.entry(one).or_default() += 1);
    times
}
