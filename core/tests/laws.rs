//! Laws 1, 3 and 4 as properties: whatever the messages, tasks and decisions are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use taskhost_core::batch::{Decided, Decider, Deferral, Fold, Settings, WakeupKind, WriteSet};
use taskhost_core::cause::{self, Cause, Route, Waited};
use taskhost_core::decision::{Decision, Event, Outgoing, TimerOrder, Transition};
use taskhost_core::descriptor::{Descriptor, Status, TaskIdSource};
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::outcome::Outcome;
use taskhost_core::pauses::Pauses;
use taskhost_core::record::{Message, TopicPartition};
use taskhost_core::task::{PluginVersion, Task, TaskId};
use taskhost_core::trace::Trace;
use uuid::Uuid;

const TOPIC_ID: Uuid = Uuid::from_u128(77);
const NOW: i64 = 1_700_000_000_000;

/// What a message asks of the test's rule.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Create,
    Step,
    Close,
    Defer,
    Reject,
    Fault,
    BadAnswer,
    Garbage,
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => Just(Ask::Create),
        4 => Just(Ask::Step),
        2 => Just(Ask::Close),
        1 => Just(Ask::Defer),
        1 => Just(Ask::Reject),
        1 => Just(Ask::Fault),
        1 => Just(Ask::BadAnswer),
        1 => Just(Ask::Garbage),
    ]
}

fn messages() -> impl Strategy<Value = Vec<(u8, Ask)>> {
    proptest::collection::vec((0u8..5, ask()), 0..40)
}

/// The rule, as pure as a plugin's.
fn rule(task: Option<&Task>, ask: &str) -> Decided {
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
        ("Fault", _) => Decided::Fault(Fault::new(Kind::Trap, "boom")),
        ("BadAnswer", _) => apply("nowhere", "opened"),
        _ => ignore,
    }
}

fn decider() -> Decider {
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
    }
}

fn settings() -> Arc<Settings> {
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
        replays_max: 3,
        record_bytes_max: Arc::default(),
    })
}

fn message(offset: i64, id: u8, ask: Ask) -> Arc<Message> {
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

fn cause(message: &Arc<Message>) -> Result<Cause, taskhost_core::envelope::Undecodable> {
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

/// What the database would hold.
#[derive(Debug, Default, Clone, PartialEq)]
struct World {
    tasks: BTreeMap<TaskId, Task>,
    waiting: Vec<(TaskId, i64)>,
    rest: WriteSet,
}

impl World {
    fn write(&mut self, set: WriteSet) {
        for task in set.created.iter().chain(&set.updated) {
            self.tasks.insert(task.id.clone(), task.clone());
        }
        for wakeup in &set.waiting {
            assert_eq!(wakeup.kind, WakeupKind::Deferred);
            self.waiting.push((wakeup.task_id.clone(), wakeup.sequence));
        }
        self.rest.events.extend(set.events);
        self.rest.records.extend(set.records);
        self.rest.dead_letters.extend(set.dead_letters);
        self.rest.timers.extend(set.timers);
        self.rest.counts.applied += set.counts.applied;
        self.rest.counts.ignored += set.counts.ignored;
        self.rest.counts.deferred += set.counts.deferred;
        self.rest.counts.dead_letters += set.counts.dead_letters;
    }

    /// Decides a run of messages as one batch.
    fn batch(&mut self, messages: &[Arc<Message>]) {
        let blocked = self.waiting.iter().map(|(id, _)| id.clone()).collect();
        let mut fold = Fold::new(settings(), NOW, self.tasks.values().cloned(), blocked);
        for message in messages {
            let cause = match cause(message) {
                Ok(cause) => cause,
                Err(why) => {
                    fold.undecodable(message, &why, None);
                    continue;
                }
            };
            if fold.is_blocked(&cause) {
                fold.behind(&cause, &decider());
                continue;
            }
            let body: HashMap<String, String> =
                serde_json::from_slice(message.value.as_deref().expect("a value")).expect("JSON");
            let decided = rule(fold.task(&cause.task_id), &body["ask"]);
            if let Err(fault) = fold.decided(&cause, decided, &decider()) {
                fold.decided(&cause, Decided::Fault(fault), &decider())
                    .expect("a fault is taken");
            }
        }
        self.write(fold.finish());
    }
}

#[test]
fn a_message_does_not_grow_too_old_by_an_outage() {
    let waited = 61_000;
    for (paused, outcome) in [(0, Outcome::DeadLetter), (2_000, Outcome::Deferred)] {
        let mut pauses = Pauses::default();
        pauses.add(NOW - 30_000, NOW - 30_000 + paused);
        let fold = Fold::new(settings(), NOW, [], HashSet::new());
        let mut fold = fold.forgiving(Arc::new(pauses));
        let mut cause = cause(&message(0, 1, Ask::Defer)).expect("a cause");
        cause.waited = Some(Waited {
            wakeup: Uuid::nil(),
            attempt: 1,
            since: NOW - waited,
            replay: None,
        });
        let decided = rule(None, "Defer");
        let taken = fold.decided(&cause, decided, &decider()).expect("no fault");
        assert_eq!(taken, outcome, "{paused} ms were paused");
    }
}

proptest! {
    #[test]
    fn deciding_in_batches_equals_deciding_one_by_one(asks in messages(), size in 1usize..40) {
        let log: Vec<_> = (0..).zip(&asks).map(|(offset, (id, ask))| message(offset, *id, *ask)).collect();
        let (mut whole, mut single) = (World::default(), World::default());
        for batch in log.chunks(size) {
            whole.batch(batch);
        }
        for message in &log {
            single.batch(std::slice::from_ref(message));
        }
        prop_assert_eq!(whole, single);
    }

    #[test]
    fn every_record_has_exactly_one_outcome(asks in messages(), size in 1usize..40) {
        let log: Vec<_> = (0..).zip(&asks).map(|(offset, (id, ask))| message(offset, *id, *ask)).collect();
        let mut world = World::default();
        for batch in log.chunks(size) {
            world.batch(batch);
        }
        let counts = world.rest.counts;
        prop_assert_eq!(counts.consumed(), log.len() as u64);
        prop_assert_eq!(counts.dead_letters, world.rest.dead_letters.len() as u64);
        prop_assert_eq!(counts.deferred, world.waiting.len() as u64);
        prop_assert_eq!(counts.applied, world.rest.events.len() as u64);
        let versions: i64 = world.tasks.values().map(|task| task.version).sum();
        prop_assert_eq!(counts.applied, versions.unsigned_abs());
    }

    #[test]
    fn nothing_of_a_task_takes_effect_while_an_earlier_message_of_it_waits(asks in messages(), size in 1usize..40) {
        let log: Vec<_> = (0..).zip(&asks).map(|(offset, (id, ask))| message(offset, *id, *ask)).collect();
        let mut world = World::default();
        for batch in log.chunks(size) {
            world.batch(batch);
        }
        let mut first: HashMap<TaskId, i64> = HashMap::new();
        for (task, offset) in &world.waiting {
            first.entry(task.clone()).or_insert(*offset);
        }
        for event in &world.rest.events {
            if let Some(waiting) = first.get(&event.task_id) {
                prop_assert!(event.cause.offset < *waiting);
            }
        }
    }

    #[test]
    fn the_decoder_never_panics(value in proptest::collection::vec(any::<u8>(), 0..200), name in ".{0,12}", header in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)), timestamp: i64) {
        let mut message = Message::clone(&message(0, 0, Ask::Create));
        message.value = Some(value);
        message.timestamp = timestamp;
        message.headers = vec![(name, header.clone()), ("taskId".into(), header)];
        let _ = cause(&Arc::new(message));
    }

    #[test]
    fn json_of_any_shape_is_decoded_or_named(id in any::<Option<i32>>(), text in ".{0,30}", wrap: bool) {
        let body = serde_json::json!({ "id": id, "ask": text, "traceId": id, "timestamp": text });
        let value = if wrap { serde_json::json!({ "headers": { "taskType": text }, "message": body }) } else { body };
        let mut message = Message::clone(&message(0, 0, Ask::Create));
        message.value = Some(value.to_string().into_bytes());
        let _ = cause(&Arc::new(message));
    }
}
