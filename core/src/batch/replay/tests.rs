//! Each end of a replay, and that its record is counted in one place at a time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::batch::{Decided, Deferral, Retries, Settings, WakeupKind, WriteSet};
use crate::cause::{self, OnDeadLetter, Route};
use crate::dead_letter::{Replay, Source};
use crate::decision::Decision;
use crate::descriptor::{Descriptor, TaskIdSource};
use crate::outcome::Counts;
use crate::record::TopicPartition;
use crate::task::{PluginVersion, RecordedDecider, TaskId};
use crate::trace::Trace;
use crate::waiting::{Ahead, Rank, Why};

const LETTER: Uuid = Uuid::from_u128(9);
const WAKEUP: Uuid = Uuid::from_u128(11);

/// A fold in whose partition something of task `a` waits at these offsets.
fn fold(waiting: &[i64]) -> Fold {
    let settings = Settings {
        group: "g".into(),
        partition: TopicPartition::new("in", 0),
        topic_id: Uuid::from_u128(7),
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
    };
    let mut ahead: HashMap<TaskId, Ahead> = HashMap::new();
    for offset in waiting {
        let of_task = ahead.entry(task_id()).or_default();
        of_task.add(Rank::of_record(*offset), false);
    }
    Fold::new(Arc::new(settings), 1_700_000_000_000, [], ahead)
}

fn task_id() -> TaskId {
    TaskId::new("a").expect("an id")
}

fn plugin() -> Arc<PluginVersion> {
    Arc::new(PluginVersion {
        name: "p".into(),
        version: "1".into(),
        digest: "ab".into(),
    })
}

fn decider() -> Decider {
    let descriptor = Descriptor {
        name: "p".into(),
        version: "1.0.0".into(),
        statuses: Vec::new(),
        transitions: HashSet::new(),
        consumes: vec!["in".into()],
        produces: Vec::new(),
        events: Vec::new(),
        task_id: vec![TaskIdSource::Key],
    };
    Decider {
        route: "in".into(),
        plugin: plugin(),
        descriptor: Arc::new(descriptor),
        topics: Arc::new(BTreeMap::new()),
        record: Arc::new(RecordedDecider {
            route: "in".into(),
            activation: 1,
            plugin: plugin(),
            config: "".into(),
            interface: "".into(),
            topics: Arc::new(BTreeMap::new()),
        }),
        hold: None,
        on_dead_letter: OnDeadLetter::GoOn,
    }
}

fn replay(number: i32, is_waiting: bool) -> Cause {
    let message = Arc::new(Message {
        position: TopicPartition::new("in", 0).at(5),
        timestamp: 1_700_000_000_000,
        key: Some(b"a".to_vec()),
        value: Some(b"{}".to_vec()),
        headers: Vec::new(),
    });
    let routes = [Route {
        name: "in".into(),
        logical_topic: "in".into(),
        topic: "in".into(),
        task_type: None,
        default_task_type: Some("t".into()),
        on_dead_letter: OnDeadLetter::GoOn,
    }];
    let trace = Trace {
        trace_id: "0".repeat(32),
        span_id: "0".repeat(16),
        flags: 0,
        tracestate: None,
        foreign: None,
    };
    let descriptor = decider().descriptor;
    let topic_id = Uuid::from_u128(7);
    let made = cause::of_message(
        &message,
        &routes,
        topic_id,
        |_| descriptor.clone(),
        |_| trace.clone(),
    );
    Cause {
        waited: Some(Waited {
            wakeup: WAKEUP,
            task_id: task_id(),
            rank: Rank::of_record(5),
            why: Why::Turn,
            due: None,
            counts_from: None,
            attempt: 0,
            tries: 0,
            since_worked: None,
            replay: Some(Replay {
                letter: LETTER,
                number,
                failed_at: 1,
                source: Source::Record,
                is_waiting,
                holds: false,
                was_missing: false,
            }),
        }),
        ..made.expect("a cause")
    }
}

fn decide(cause: &Cause, decision: Decision) -> WriteSet {
    let mut fold = fold(&[]);
    fold.decided(cause, Decided::Answer(decision), &decider())
        .expect("no fault");
    fold.finish()
}

fn ignore() -> Decision {
    Decision::Ignore {
        reason: "nothing new".into(),
    }
}

fn reject() -> Decision {
    Decision::Reject {
        code: "no-way".into(),
        reason: "because".into(),
    }
}

#[test]
fn a_replay_leaves_the_dead_letters_where_it_ends_and_consumes_nothing() {
    let set = decide(&replay(1, false), ignore());
    assert_eq!(set.done, [WAKEUP]);
    assert_eq!(set.replayed[0].end, End::Ignored);
    let counts = Counts {
        ignored: 1,
        left_dead_letters: 1,
        ..Counts::default()
    };
    assert_eq!((set.counts, counts.consumed()), (counts, 0));
    // Once it waited, it leaves from there.
    let set = decide(&replay(1, true), ignore());
    let counts = Counts {
        ignored: 1,
        left_waiting: 1,
        ..Counts::default()
    };
    assert_eq!(set.counts, counts);
}

#[test]
fn a_replay_that_fails_stays_the_dead_letter_that_it_was_until_it_is_parked() {
    for (number, parks) in [(1, false), (2, false), (3, true), (4, true)] {
        let set = decide(&replay(number, false), reject());
        assert!(set.dead_letters.is_empty(), "no second one");
        let End::Failed { letter, parked } = &set.replayed[0].end else {
            panic!("{:?}", set.replayed);
        };
        assert_eq!(
            (letter.id, letter.replays, *parked),
            (LETTER, number, parks)
        );
        assert_eq!(set.records[0].topic, "in.dlq");
        let found = set.records[0]
            .headers
            .iter()
            .find(|(name, _)| name == "taskhost-dlq-replays");
        assert_eq!(
            found.and_then(|(_, value)| value.clone()),
            Some(number.to_string().into_bytes())
        );
        assert_eq!(set.counts.consumed(), 0);
        assert_eq!(set.counts.dead_letters, set.counts.left_dead_letters);
    }
}

#[test]
fn a_replay_waits_at_its_records_place_behind_what_waits_before_that() {
    let cause = replay(1, false);
    assert!(
        !fold(&[6]).is_blocked(&cause),
        "what is behind it holds up nothing"
    );
    let mut fold = fold(&[4]);
    assert!(fold.is_blocked(&cause));
    fold.behind(&cause, &decider());
    let set = fold.finish();
    let wakeup = &set.waiting[0];
    assert_eq!(
        (wakeup.kind, wakeup.rank, wakeup.due),
        (WakeupKind::Deferred, Rank::of_record(5), None)
    );
    assert_eq!(set.done, [WAKEUP]);
    assert_eq!(set.replayed[0].end, End::Waiting { wakeup: wakeup.id });
    assert_eq!(
        (
            set.counts.deferred,
            set.counts.left_dead_letters,
            set.counts.consumed()
        ),
        (1, 1, 0)
    );
}

#[test]
fn what_is_sent_again_is_not_decided_and_stays_counted() {
    let cause = replay(1, false);
    let (Some(waited), crate::cause::Source::Message { message, .. }) =
        (&cause.waited, &cause.source)
    else {
        panic!("a message that waited");
    };
    let mut fold = fold(&[]);
    fold.republish(message, waited);
    let set = fold.finish();
    assert_eq!(
        (set.records[0].topic.as_str(), &set.replayed[0].end),
        ("in", &End::Republished)
    );
    assert_eq!(
        (set.counts, set.done.as_slice()),
        (Counts::default(), [WAKEUP].as_slice())
    );
}
