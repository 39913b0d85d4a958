//! A partition's rows in memory, and a rule that does what each message asks for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use taskhost_core::batch::{
    Decided, Decider, Deferral, Fold, Retries, Settings, Wakeup, WakeupKind, WriteSet,
};
use taskhost_core::cause::{self, Cause, Route, Stored, Waited};
use taskhost_core::decision::{Decision, Event, Outgoing, TimerOrder, Transition};
use taskhost_core::descriptor::{Descriptor, Status, TaskIdSource};
use taskhost_core::envelope::Undecodable;
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::record::{Message, TopicPartition};
use taskhost_core::task::{PluginVersion, Task, TaskId};
use taskhost_core::trace::Trace;
use taskhost_core::waiting::Why;
use uuid::Uuid;

pub(crate) const TOPIC_ID: Uuid = Uuid::from_u128(77);
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// What a message asks of the test's rule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    Create,
    Step,
    Close,
    Defer,
    Reject,
    Fault,
    Slow,
    BadAnswer,
    Garbage,
}

pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => Just(Ask::Create),
        4 => Just(Ask::Step),
        2 => Just(Ask::Close),
        1 => Just(Ask::Defer),
        1 => Just(Ask::Reject),
        1 => Just(Ask::Fault),
        1 => Just(Ask::Slow),
        1 => Just(Ask::BadAnswer),
        1 => Just(Ask::Garbage),
    ]
}

pub(crate) fn messages() -> impl Strategy<Value = Vec<(u8, Ask)>> {
    proptest::collection::vec((0u8..5, ask()), 0..40)
}

/// The rule, as pure as a plugin's.
pub(crate) fn rule(task: Option<&Task>, ask: &str) -> Decided {
    let apply = |status: &str, kind: &str| {
        let data = format!(r#"{{"n":{}}}"#, task.map_or(0, |task| task.version));
        Decided::Answer(Decision::Apply(Transition {
            status: status.to_owned(),
            data: data.clone(),
            events: vec![Event {
                kind: kind.to_owned(),
                data: data.clone(),
            }],
            messages: vec![Outgoing {
                topic: "out".into(),
                key: None,
                body: data.clone(),
                headers: vec![],
            }],
            timers: vec![TimerOrder::Set {
                name: "t".into(),
                due: NOW,
                data,
            }],
        }))
    };
    let ignore = Decided::Answer(Decision::Ignore {
        reason: "no".into(),
    });
    let delay = Duration::from_secs(1);
    match (ask, task.map(|task| &*task.status)) {
        ("Create", None) => apply("open", "opened"),
        ("Step" | "Close", None) | ("Defer", _) => Decided::Answer(Decision::Defer {
            reason: "not yet".into(),
            delay,
        }),
        ("Step", Some("open")) => apply("open", "stepped"),
        ("Close", Some("open")) => apply("closed", "closed"),
        ("Reject", _) => Decided::Answer(Decision::Reject {
            code: "no-way".into(),
            reason: "no".into(),
        }),
        ("Slow", _) => Decided::Fault(Fault::new(Kind::Deadline, "too slow")),
        ("Fault", _) => Decided::Fault(Fault::new(Kind::Trap, "boom")),
        ("BadAnswer", _) => apply("nowhere", "opened"),
        _ => ignore,
    }
}

pub(crate) fn decider() -> Decider {
    let status = |name: &str, initial, terminal| Status {
        name: name.into(),
        initial,
        terminal,
    };
    Decider {
        route: "in".into(),
        plugin: Arc::new(PluginVersion {
            name: "p".into(),
            version: "1.0.0".into(),
            digest: "00".into(),
        }),
        descriptor: Arc::new(Descriptor {
            name: "p".into(),
            version: "1.0.0".into(),
            statuses: vec![status("open", true, false), status("closed", false, true)],
            transitions: HashSet::from([
                ("open".into(), "open".into()),
                ("open".into(), "closed".into()),
            ]),
            consumes: vec!["in".into()],
            produces: vec!["out".into()],
            events: vec!["opened".into(), "stepped".into(), "closed".into()],
            task_id: vec![TaskIdSource::Body("/id".into())],
        }),
        topics: Arc::new(BTreeMap::from([("out".to_owned(), "real-out".to_owned())])),
        hold: None,
    }
}

pub(crate) fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        group: "g".into(),
        partition: TopicPartition::new("in", 0),
        topic_id: TOPIC_ID,
        events_topic: "task-events".into(),
        dead_letter_topic: "in.dlq".into(),
        spring_headers: false,
        deferral: Deferral {
            attempts_max: 10,
            age_max: Duration::from_secs(60),
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_secs(60),
        },
        retries: Retries {
            max: 3,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
        },
        replays_max: 3,
        record_bytes_max: Arc::default(),
    })
}

pub(crate) fn message(offset: i64, id: u8, ask: Ask) -> Arc<Message> {
    let value = match ask {
        Ask::Garbage => b"{".to_vec(),
        ask => format!(r#"{{"id":"task-{id}","ask":"{ask:?}"}}"#).into_bytes(),
    };
    Arc::new(Message {
        position: TopicPartition::new("in", 0).at(offset),
        timestamp: NOW + offset,
        key: None,
        value: Some(value),
        headers: vec![],
    })
}

pub(crate) fn cause(message: &Arc<Message>) -> Result<Cause, Undecodable> {
    let routes = [Route {
        name: "in".into(),
        logical_topic: "in".into(),
        topic: "in".into(),
        task_type: None,
        default_task_type: Some("thing".into()),
    }];
    let trace = Trace {
        trace_id: "1".repeat(32),
        span_id: "2".repeat(16),
        flags: 1,
        tracestate: None,
        foreign: None,
    };
    let descriptor = decider().descriptor;
    cause::of_message(
        message,
        &routes,
        TOPIC_ID,
        |_| descriptor.clone(),
        |_| trace.clone(),
    )
}

/// What the database would hold, and the time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) waiting: Vec<Wakeup>,
    pub(crate) rest: WriteSet,
    pub(crate) now: i64,
    /// How long the partition has worked.
    pub(crate) worked: i64,
    /// Set while the plugin is on probation.
    pub(crate) hold: Option<Duration>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            tasks: BTreeMap::new(),
            waiting: Vec::new(),
            rest: WriteSet::default(),
            now: NOW,
            worked: 0,
            hold: None,
        }
    }
}

impl World {
    pub(crate) fn write(&mut self, set: WriteSet) {
        for task in set.created.iter().chain(&set.updated) {
            self.tasks.insert(task.id.clone(), task.clone());
        }
        for id in &set.done {
            let place = self.waiting.iter().position(|row| row.id == *id);
            let done = self.waiting.remove(place.expect("a row"));
            // The next one of its task gets its turn.
            let next = self
                .waiting
                .iter_mut()
                .find(|row| row.task_id == done.task_id);
            if let Some(next) = next {
                next.due = next.due.or(Some(self.now));
            }
        }
        for postponed in set.postponed {
            let row = self.waiting.iter_mut().find(|row| row.id == postponed.id);
            let row = row.expect("a row");
            row.due = Some(postponed.due);
            row.why = postponed.why;
            row.attempt = postponed.attempt;
            row.tries = postponed.tries;
            row.since_worked = postponed.since_worked;
            row.reason = postponed.reason;
        }
        for wakeup in set.waiting {
            assert_eq!(wakeup.kind, WakeupKind::Deferred);
            self.waiting.push(wakeup);
        }
        self.rest.events.extend(set.events);
        self.rest.records.extend(set.records);
        self.rest.dead_letters.extend(set.dead_letters);
        self.rest.timers.extend(set.timers);
        self.rest.counts.applied += set.counts.applied;
        self.rest.counts.ignored += set.counts.ignored;
        self.rest.counts.deferred += set.counts.deferred;
        self.rest.counts.dead_letters += set.counts.dead_letters;
        self.rest.counts.left_waiting += set.counts.left_waiting;
    }

    /// Decides a run of messages as one batch.
    pub(crate) fn batch(&mut self, messages: &[Arc<Message>]) {
        let blocked = self.waiting.iter().map(|row| row.task_id.clone()).collect();
        let mut fold = self.fold(blocked);
        for message in messages {
            match cause(message) {
                Ok(cause) => self.decide(&mut fold, &cause),
                Err(why) => drop(fold.undecodable(message, &why, None)),
            }
        }
        self.write(fold.finish());
    }

    /// Goes on to the time when something is due, and decides so many at a time until nothing is.
    pub(crate) fn wake(&mut self, size: usize) {
        let Some(due) = self.waiting.iter().filter_map(|row| row.due).min() else {
            return;
        };
        self.now = self.now.max(due);
        loop {
            let heads: HashSet<TaskId> = self
                .waiting
                .iter()
                .filter(|row| row.due.is_some_and(|due| due <= self.now))
                .map(|row| row.task_id.clone())
                .collect();
            let mut rows: Vec<Wakeup> = self
                .waiting
                .iter()
                .filter(|row| heads.contains(&row.task_id))
                .cloned()
                .collect();
            if rows.is_empty() {
                return;
            }
            rows.sort_by(|a, b| (&a.task_id, a.rank).cmp(&(&b.task_id, b.rank)));
            let mut fold = self.fold(HashSet::new());
            for row in rows.iter().take(size) {
                let Some(Stored::Message(message)) = Stored::decode(&row.cause) else {
                    panic!("no message");
                };
                let mut cause = cause(&Arc::new(message)).expect("a cause");
                cause.waited = Some(Waited {
                    wakeup: row.id,
                    attempt: row.attempt,
                    tries: row.tries,
                    since_worked: row.since_worked,
                    was_held: row.why == Why::Held,
                    replay: None,
                });
                self.decide(&mut fold, &cause);
            }
            self.write(fold.finish());
        }
    }

    pub(crate) fn fold(&self, blocked: HashSet<TaskId>) -> Fold {
        Fold::new(settings(), self.now, self.tasks.values().cloned(), blocked)
            .having_worked(self.worked)
    }

    fn decide(&self, fold: &mut Fold, cause: &Cause) {
        let decider = Decider {
            hold: self.hold,
            ..decider()
        };
        if fold.is_blocked(cause) {
            fold.behind(cause, &decider);
            return;
        }
        let cause::Source::Message { message, .. } = &cause.source else {
            panic!("no message");
        };
        let body: HashMap<String, String> =
            serde_json::from_slice(message.value.as_deref().expect("a value")).expect("JSON");
        let decided = rule(fold.task(&cause.task_id), &body["ask"]);
        if let Err(fault) = fold.decided(cause, decided, &decider) {
            fold.decided(cause, Decided::Fault(fault), &decider)
                .expect("a fault is taken");
        }
    }

    /// Everything but the order between tasks, which the order of their turns decides.
    pub(crate) fn by_task(&self) -> Self {
        let mut sorted = self.clone();
        sorted.waiting.sort_by_key(|row| row.id);
        sorted.rest.events.sort_by(|a, b| a.task_id.cmp(&b.task_id));
        sorted.rest.dead_letters.sort_by_key(|letter| letter.id);
        sorted.rest.records.sort_by(|a, b| a.key.cmp(&b.key));
        sorted
    }
}
