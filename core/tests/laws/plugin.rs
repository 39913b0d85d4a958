//! A plugin in memory, a rule that does what each message asks for, and what they are decided with.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use taskhost_core::batch::{Decided, Decider, Deferral, Retries, Settings};
use taskhost_core::cause::{Cause, OnDeadLetter, Route, Source};
use taskhost_core::decision::{Decision, Event, Outgoing, TimerOrder, Transition};
use taskhost_core::descriptor::{Descriptor, Status, TaskIdSource};
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::record::{Message, TopicPartition};
use taskhost_core::round::{Ask, Unanswered, Work};
use taskhost_core::task::{PluginVersion, RecordedDecider, Task};
use taskhost_core::trace::Trace;
use uuid::Uuid;

pub(crate) const TOPIC_ID: Uuid = Uuid::from_u128(77);
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// The names of the two routes: of the type `thing`, which is the default, and of the type `other`.
pub(crate) const ROUTES: [&str; 2] = ["in/thing", "in/other"];

/// What a plugin answers, or how it fails: a pure function of the task and the cause.
pub(crate) type Rule = Rc<dyn Fn(Option<&Task>, &Cause) -> Decided>;

/// A plugin for each route, with one rule.
#[derive(Clone)]
pub(crate) struct Plugin {
    pub(crate) rule: Rule,
    pub(crate) deciders: [Arc<Decider>; 2],
    /// How long a call takes.
    pub(crate) cost: Duration,
    spent: Cell<Duration>,
}

impl Plugin {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            deciders: [0, 1].map(|route| Arc::new(decider(ROUTES[route]))),
            cost: Duration::ZERO,
            spent: Cell::default(),
        }
    }

    /// A round begins.
    pub(crate) fn begin(&self) {
        self.spent.set(Duration::ZERO);
    }

    /// Changes the deciders of both routes.
    pub(crate) fn each(&mut self, change: impl Fn(&mut Decider)) {
        for decider in &mut self.deciders {
            change(Arc::make_mut(decider));
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plugin")
    }
}

impl Ask for Plugin {
    fn decider(&self, route: usize) -> &Arc<Decider> {
        &self.deciders[route]
    }

    /// Carries each task from cause to cause, as the guest's library does, and answers nothing if one of them faults.
    fn ask(&self, _: usize, works: &[Work<'_>]) -> Result<Vec<Vec<Decision>>, Unanswered> {
        self.spent.set(self.spent.get() + self.cost);
        let mut answers = Vec::new();
        for work in works {
            let (mut task, mut decisions) = (work.task.cloned(), Vec::new());
            for cause in &work.causes {
                let decision = match (self.rule)(task.as_ref(), cause) {
                    Decided::Answer(decision) => decision,
                    Decided::Fault(fault) => return Err(fault.into()),
                };
                if let Decision::Apply(transition) = &decision {
                    task = Some(after(task.as_ref(), cause, transition));
                }
                decisions.push(decision);
            }
            answers.push(decisions);
        }
        Ok(answers)
    }

    fn spent(&self) -> Duration {
        self.spent.get()
    }
}

/// The task as a transition leaves it.
fn after(task: Option<&Task>, cause: &Cause, transition: &Transition) -> Task {
    Task {
        id: cause.task_id.clone(),
        kind: cause.task_type.clone(),
        status: transition.status.as_str().into(),
        data: transition.data.as_str().into(),
        version: task.map_or(0, |task| task.version) + 1,
        created_at: task.map_or(cause.at, |task| task.created_at),
        updated_at: cause.at,
    }
}

/// The body's fields, or a timer's data.
pub(crate) fn fields(cause: &Cause) -> HashMap<String, String> {
    match &cause.source {
        Source::Message { envelope, .. } => serde_json::from_str(&envelope.body),
        Source::Timer(timer) => serde_json::from_str(&timer.data),
    }
    .expect("texts by name")
}

/// What a message asks of the named rule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
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

/// An answer that changes the task: one event of this kind, one message, and a timer.
pub(crate) fn apply(task: Option<&Task>, status: &str, kind: &str, timer: TimerOrder) -> Decided {
    let data = format!(r#"{{"n":"{}"}}"#, task.map_or(0, |task| task.version));
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
            body: data,
            headers: vec![],
        }],
        timers: vec![timer],
    }))
}

pub(crate) fn ignore() -> Decided {
    Decided::Answer(Decision::Ignore {
        reason: "no".into(),
    })
}

pub(crate) fn reject() -> Decided {
    Decided::Answer(Decision::Reject {
        code: "no-way".into(),
        reason: "no".into(),
    })
}

pub(crate) fn defer(delay: Duration) -> Decided {
    Decided::Answer(Decision::Defer {
        reason: "not yet".into(),
        delay,
    })
}

/// Does what each message names.
pub(crate) fn named_rule() -> Rule {
    Rc::new(|task, cause| {
        let asked = fields(cause)["ask"].clone();
        let apply = |status, kind| {
            let timer = TimerOrder::Cancel { name: "t".into() };
            apply(task, status, kind, timer)
        };
        match (asked.as_str(), task.map(|task| &*task.status)) {
            ("Create", None) => apply("open", "opened"),
            ("Step" | "Close", None) | ("Defer", _) => defer(Duration::from_secs(1)),
            ("Step", Some("open")) => apply("open", "stepped"),
            ("Close", Some("open")) => apply("closed", "closed"),
            ("Reject", _) => reject(),
            ("Slow", _) => Decided::Fault(Fault::new(Kind::Deadline, "too slow")),
            ("Fault", _) => Decided::Fault(Fault::new(Kind::Trap, "boom")),
            ("BadAnswer", _) => apply("nowhere", "opened"),
            _ => ignore(),
        }
    })
}

/// Statuses of the named rule, and of the drawn ones.
const STATUSES: [(&str, bool); 5] = [
    ("open", true),
    ("closed", false),
    ("s0", true),
    ("s1", true),
    ("s2", true),
];

fn plugin() -> Arc<PluginVersion> {
    Arc::new(PluginVersion {
        name: "p".into(),
        version: "1.0.0".into(),
        digest: "00".into(),
    })
}

fn decider(route: &str) -> Decider {
    let statuses = STATUSES.map(|(name, initial)| Status {
        name: name.into(),
        initial,
        terminal: name == "closed",
    });
    let pairs = STATUSES
        .iter()
        .flat_map(|(from, _)| STATUSES.iter().map(move |(to, _)| (*from, *to)));
    let transitions = pairs.filter(|(from, _)| *from != "closed");
    Decider {
        route: route.into(),
        plugin: plugin(),
        descriptor: Arc::new(Descriptor {
            name: "p".into(),
            version: "1.0.0".into(),
            statuses: statuses.into(),
            transitions: transitions
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .collect::<HashSet<_>>(),
            consumes: vec!["in".into()],
            produces: vec!["out".into()],
            events: ["opened", "stepped", "closed", "fired"]
                .map(String::from)
                .into(),
            task_id: vec![TaskIdSource::Body("/id".into())],
        }),
        topics: Arc::new(BTreeMap::from([("out".to_owned(), "real-out".to_owned())])),
        record: Arc::new(RecordedDecider {
            route: route.into(),
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

/// The settings of a partition.
pub(crate) fn settings(partition: usize) -> Settings {
    Settings {
        group: "g".into(),
        partition: here(partition),
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
    }
}

/// A partition's name.
pub(crate) fn here(partition: usize) -> TopicPartition {
    TopicPartition::new("in", i32::try_from(partition).expect("a few"))
}

pub(crate) fn routes() -> Vec<Route> {
    let route = |task_type: &str, is_default: bool| Route {
        name: format!("in/{task_type}"),
        logical_topic: "in".into(),
        topic: "in".into(),
        task_type: Some(task_type.to_owned()),
        default_task_type: is_default.then(|| task_type.to_owned()),
        on_dead_letter: OnDeadLetter::GoOn,
    };
    vec![route("thing", true), route("other", false)]
}

pub(crate) fn trace() -> Trace {
    Trace {
        trace_id: "1".repeat(32),
        span_id: "2".repeat(16),
        flags: 1,
        tracestate: None,
        foreign: None,
    }
}

/// A message that asks something of the named rule.
pub(crate) fn message(offset: i64, id: u8, asked: Asked) -> Arc<Message> {
    let value = match asked {
        Asked::Garbage => b"{".to_vec(),
        asked => format!(r#"{{"id":"task-{id}","ask":"{asked:?}"}}"#).into_bytes(),
    };
    Arc::new(Message {
        position: here(0).at(offset),
        timestamp: NOW + offset,
        key: None,
        value: Some(value),
        headers: vec![],
    })
}
