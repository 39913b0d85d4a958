//! Compares what must be with what is: tasks, history, task events, New Task messages, dead letters and counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use serde::Serialize;
use taskhost_tests::{Record, World};

use crate::load::{REQUESTS, STATUS};
use crate::oracle::{Expected, Place, times};

/// Differences that the report tells word for word, of each kind.
const TOLD_MAX: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verdict {
    /// Records of the input topics.
    pub(crate) messages: usize,
    /// What must be there and is not.
    pub(crate) lost: u64,
    /// What is there more often than once.
    pub(crate) duplicated: u64,
    /// Versions of a task that come before an earlier one.
    pub(crate) reordered: u64,
    /// Whatever else differs.
    pub(crate) wrong: u64,
    /// How much of each kind there is.
    pub(crate) checked: BTreeMap<&'static str, usize>,
    /// The first differences, for people.
    pub(crate) differences: Vec<String>,
}

impl Verdict {
    /// Of a world in which nothing goes on any more.
    pub(crate) fn of(world: &World) -> Self {
        let (requests, status) = (world.read(REQUESTS), world.read(STATUS));
        let expected = Expected::of(&requests, &status);
        let mut verdict = Self {
            messages: requests.len() + status.len(),
            ..Self::default()
        };
        verdict.tasks(world, &expected);
        verdict.history(world, &expected);
        verdict.task_events(&world.read("task-events"), &expected);
        verdict.announcements(&status, &expected);
        let letters: Vec<Record> = [REQUESTS, STATUS]
            .iter()
            .flat_map(|topic| world.read(&format!("{topic}.dlq")))
            .collect();
        verdict.dead_letters(world, &letters, &expected);
        verdict.counts(world, &expected);
        verdict
    }

    /// Whether everything is as it must be.
    pub(crate) fn is_clean(&self) -> bool {
        (self.lost, self.duplicated, self.reordered, self.wrong) == (0, 0, 0, 0)
    }

    fn lost(&mut self, what: &str, which: impl Debug) {
        self.lost += 1;
        self.tell(self.lost, format!("lost: {what} {which:?}"));
    }

    fn duplicated(&mut self, what: &str, which: impl Debug, times: u64) {
        self.duplicated += times - 1;
        self.tell(
            self.duplicated,
            format!("duplicated: {what} {which:?}, {times} times"),
        );
    }

    fn wrong(&mut self, what: &str, which: impl Debug) {
        self.wrong += 1;
        self.tell(self.wrong, format!("wrong: {what} {which:?}"));
    }

    fn tell(&mut self, count: u64, text: String) {
        if usize::try_from(count).is_ok_and(|count| count <= TOLD_MAX) {
            self.differences.push(text);
        }
    }

    fn tasks(&mut self, world: &World, expected: &Expected) {
        let found: BTreeMap<String, (String, i64)> = world
            .tasks()
            .into_iter()
            .map(|task| (task.id, (task.status, task.version)))
            .collect();
        self.checked.insert("tasks", expected.tasks.len());
        for (id, task) in &expected.tasks {
            match found.get(id) {
                None => self.lost("task", id),
                Some((status, version))
                    if (status.as_str(), *version) != (task.status, task.version) =>
                {
                    self.wrong(
                        "task",
                        (id, status, version, "must be", task.status, task.version),
                    );
                }
                Some(_) => {}
            }
        }
        let extra = found.keys().filter(|id| !expected.tasks.contains_key(*id));
        extra.for_each(|id| self.wrong("task that nothing creates", id));
    }

    fn history(&mut self, world: &World, expected: &Expected) {
        let mut missing: BTreeSet<_> = expected.history.keys().cloned().collect();
        self.checked.insert("history", missing.len());
        for row in world.all_events() {
            let key = (row.task_id.clone(), row.version);
            missing.remove(&key);
            let step = expected.history.get(&key).filter(|_| row.number == 0);
            let Some(step) = step else {
                self.wrong("history that nothing causes", (&key, row.number, &row.kind));
                continue;
            };
            let cause = (
                world.topic(step.cause.0) == row.cause_topic,
                row.cause_partition,
                row.cause_offset,
            );
            let same = row.kind == step.kind
                && row.from_status.as_deref() == step.from
                && row.to_status == step.to
                && cause == (true, step.cause.1, step.cause.2);
            if !same {
                self.wrong(
                    "history",
                    (
                        &key,
                        row.kind,
                        row.from_status,
                        row.to_status,
                        cause,
                        "must be",
                        step,
                    ),
                );
            }
        }
        missing.iter().for_each(|key| self.lost("history", key));
    }

    /// Each once; those of one task that were caused through one partition in the order of their versions.
    fn task_events(&mut self, records: &[Record], expected: &Expected) {
        self.checked.insert("task-events", records.len());
        let mut seen: HashMap<(String, i64), u64> = HashMap::new();
        let mut last: HashMap<(i32, String, &str, i32), i64> = HashMap::new();
        for record in records {
            let value = record.json();
            let body = &value["message"];
            let (task, version) = (record.key_text(), body["version"].as_i64().unwrap_or(0));
            let key = (task.clone(), version);
            let Some(step) = expected.history.get(&key) else {
                self.wrong("task event that nothing causes", (&key, &body["kind"]));
                continue;
            };
            let told = (
                &body["kind"],
                body["from"].as_str(),
                &body["to"],
                &body["taskId"],
                &body["eventId"],
            );
            let id = format!("{task}:{version}:0");
            if told
                != (
                    &step.kind.into(),
                    step.from,
                    &step.to.into(),
                    &task.clone().into(),
                    &id.into(),
                )
            {
                self.wrong("task event", (&key, body, "must be", step));
            }
            let times = seen.entry(key.clone()).or_default();
            *times += 1;
            if *times > 1 {
                continue;
            }
            let source = (record.partition, task, step.cause.0, step.cause.1);
            let before = last.insert(source, version).unwrap_or(0);
            if before > version {
                self.reordered += 1;
                self.tell(
                    self.reordered,
                    format!("reordered: {key:?} comes after version {before}"),
                );
            }
        }
        for key in expected.history.keys() {
            match seen.get(key) {
                None => self.lost("task event", key),
                Some(1) => {}
                Some(times) => self.duplicated("task event", key, *times),
            }
        }
    }

    /// The New Task messages that the host sends to `task-status`; only its records have a trace.
    fn announcements(&mut self, status: &[Record], expected: &Expected) {
        let sent = status
            .iter()
            .filter(|record| record.header("traceparent").is_some());
        let sent = times(sent.map(Record::key_text));
        self.checked.insert("new tasks sent", sent.len());
        for id in &expected.announced {
            match sent.get(id) {
                None => self.lost("New Task message", id),
                Some(1) => {}
                Some(times) => self.duplicated("New Task message", id, *times),
            }
        }
        let extra = sent.keys().filter(|id| !expected.announced.contains(*id));
        extra.for_each(|id| self.wrong("New Task message that nothing causes", id));
    }

    fn dead_letters(&mut self, world: &World, records: &[Record], expected: &Expected) {
        let logical = |topic: &str| {
            [REQUESTS, STATUS]
                .into_iter()
                .find(|name| world.topic(name) == topic)
        };
        self.checked
            .insert("dead letters", expected.dead_letters.len());
        let mut rows: BTreeSet<Place> = BTreeSet::new();
        for row in world.dead_letters() {
            let place = (
                logical(&row.record_topic).unwrap_or("?"),
                row.record_partition,
                row.record_offset,
            );
            rows.insert(place);
            match expected.dead_letters.get(&place) {
                None => self.wrong("dead letter's row", (place, row.code, "must not be")),
                Some(code) if *code != row.code => {
                    self.wrong("dead letter's row", (place, row.code, "must be", code))
                }
                Some(_) => {}
            }
        }
        let origin = |record: &Record| {
            let header = |name: &str| record.header(&format!("__connect.errors.{name}"));
            let topic = header("topic")
                .and_then(|topic| logical(&topic))
                .unwrap_or("?");
            let number = |name: &str| {
                header(name)
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(-1)
            };
            (
                topic,
                i32::try_from(number("partition")).unwrap_or(-1),
                number("offset"),
            )
        };
        for record in records {
            let code = record.header("taskhost-dlq-code").unwrap_or_default();
            match expected.dead_letters.get(&origin(record)) {
                None => self.wrong("dead letter that nothing causes", (origin(record), code)),
                Some(must) if *must != code => {
                    self.wrong("dead letter", (origin(record), code, "must be", must))
                }
                Some(_) => {}
            }
        }
        let sent = times(records.iter().map(origin));
        for (place, code) in &expected.dead_letters {
            if !rows.contains(place) {
                self.lost("dead letter's row", (place, code));
            }
            match sent.get(place) {
                None => self.lost("dead letter", (place, code)),
                Some(1) => {}
                Some(times) => self.duplicated("dead letter", (place, code), *times),
            }
        }
    }

    /// Law 1: each consumed record has one outcome, and the counts are those outcomes.
    fn counts(&mut self, world: &World, expected: &Expected) {
        for row in world.progress() {
            let logical = [REQUESTS, STATUS]
                .into_iter()
                .find(|name| world.topic(name) == row.topic);
            let must =
                logical.and_then(|name| expected.counts.get(&(name, row.partition)).copied());
            let must = must.unwrap_or_default();
            let consumed = must.applied + must.ignored + must.dead_letters + must.waiting;
            let is = (
                row.consumed,
                row.applied,
                row.ignored,
                row.dead_letters,
                row.waiting,
            );
            let must = (
                consumed,
                must.applied,
                must.ignored,
                must.dead_letters,
                must.waiting,
            );
            if is != must {
                let names = "consumed, applied, ignored, dead letters, waiting";
                self.wrong(
                    "counts",
                    (&row.topic, row.partition, names, is, "must be", must),
                );
            }
        }
    }
}
