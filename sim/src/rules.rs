//! What the plugins of a world decide: a pure function of the task and the cause. Each message says what it asks for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use taskhost::deciders::{Current, Deciders, Rule};
use taskhost_core::cause::{Cause, OnDeadLetter, Route, Source};
use taskhost_core::decision::{Decision, Event, Outgoing, TimerOrder, Transition};
use taskhost_core::descriptor::{Descriptor, Status, TaskIdSource};
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::record::{Position, TopicPartition};
use taskhost_core::round::{Unanswered, Work};
use taskhost_core::task::{PluginVersion, Task};

use crate::ledger::{MemoryLedger, UNSTORABLE};
use crate::net::Net;

/// The input topics, with a route each. What is asked on one may be about tasks of the other.
pub(crate) const INPUTS: [&str; 2] = ["in", "side"];

/// The topic that rules send to.
pub(crate) const OUTPUT: &str = "out";

/// The topic of task events.
pub(crate) const EVENTS: &str = "task-events";

/// What a message may ask for, with its weight.
pub(crate) const ASKS: [(&str, u64); 11] = [
    ("create", 20),
    ("step", 40),
    ("wait", 8),
    ("timer", 6),
    ("untimer", 3),
    ("ignore", 5),
    ("reject", 5),
    ("fault", 3),
    ("slow", 3),
    ("unstorable", 2),
    ("garbage", 3),
];

/// The routes of a world.
pub(crate) fn routes(on_dead_letter: OnDeadLetter) -> Vec<Route> {
    let route = |topic: &&str| Route {
        name: (*topic).to_owned(),
        logical_topic: (*topic).to_owned(),
        topic: (*topic).to_owned(),
        task_type: None,
        default_task_type: Some("thing".to_owned()),
        on_dead_letter,
    };
    INPUTS.iter().map(route).collect()
}

/// Real names of logical topics.
pub(crate) fn topics() -> BTreeMap<String, String> {
    BTreeMap::from([(OUTPUT.to_owned(), OUTPUT.to_owned())])
}

/// A host's view of the activations, as it last read them.
#[derive(Debug)]
pub(crate) struct Versions {
    pub(crate) ledger: MemoryLedger,
    pub(crate) net: Arc<Net>,
    /// The current activation of each route: its number and digest.
    pub(crate) seen: std::sync::Mutex<Vec<Option<(i64, String)>>>,
}

impl Versions {
    /// Reads the activations as they are now.
    pub(crate) fn follow(&self, route: usize) {
        let name = INPUTS[route];
        let now = self.ledger.server.with(|tables| {
            let all = tables.activations.get(name)?;
            let number = i64::try_from(all.len()).ok()?;
            Some((number, all.last()?.clone()))
        });
        let mut seen = self.seen.lock().unwrap_or_else(|held| held.into_inner());
        seen[route] = now;
    }
}

#[async_trait]
impl Deciders for Versions {
    fn current(&self, route: usize) -> Option<Current> {
        let seen = self.seen.lock().unwrap_or_else(|held| held.into_inner());
        let (number, digest) = seen.get(route)?.clone()?;
        let version = PluginVersion {
            name: "rule".to_owned(),
            version: "1.0.0".to_owned(),
            digest,
        };
        Some(Current {
            number,
            version: Arc::new(version),
            descriptor: Arc::new(descriptor()),
            config: "{}".into(),
            interface: "simulated",
            hold: None,
            rule: Arc::new(Asked),
        })
    }

    async fn refresh(&self, route: usize) -> Result<(), String> {
        // As long as a question to Postgres takes.
        let millis = self.net.below(20);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.follow(route);
        Ok(())
    }
}

fn descriptor() -> Descriptor {
    let status = |name: &str| Status {
        name: name.to_owned(),
        initial: name == "open",
        terminal: false,
    };
    let pairs = [
        ("open", "open"),
        ("open", "busy"),
        ("busy", "open"),
        ("busy", "busy"),
    ];
    let pairs = pairs.map(|(from, to)| (from.to_owned(), to.to_owned()));
    Descriptor {
        name: "rule".to_owned(),
        version: "1.0.0".to_owned(),
        statuses: ["open", "busy"].map(status).into(),
        transitions: HashSet::from(pairs),
        consumes: INPUTS.map(str::to_owned).into(),
        produces: vec![OUTPUT.to_owned()],
        events: ["changed"].map(str::to_owned).into(),
        task_id: vec![TaskIdSource::Body("/id".to_owned())],
    }
}

/// Does what each message asks for.
#[derive(Debug)]
struct Asked;

impl Rule for Asked {
    fn decide(
        &self,
        works: &[Work<'_>],
        _: &TopicPartition,
        _: bool,
    ) -> Result<Vec<Vec<Decision>>, Unanswered> {
        works.iter().map(decide).collect()
    }
}

/// Carries the task from cause to cause, as a guest's library does.
fn decide(work: &Work<'_>) -> Result<Vec<Decision>, Unanswered> {
    let mut task: Option<Task> = work.task.cloned();
    let mut decisions = Vec::with_capacity(work.causes.len());
    for cause in &work.causes {
        let decision = one(task.as_ref(), cause)?;
        if let Decision::Apply(transition) = &decision {
            task = Some(Task {
                id: cause.task_id.clone(),
                kind: cause.task_type.clone(),
                status: transition.status.as_str().into(),
                data: transition.data.as_str().into(),
                version: task.as_ref().map_or(0, |task| task.version) + 1,
                created_at: cause.at,
                updated_at: cause.at,
            });
        }
        decisions.push(decision);
    }
    Ok(decisions)
}

fn one(task: Option<&Task>, cause: &Cause) -> Result<Decision, Unanswered> {
    let (asked, at) = match &cause.source {
        Source::Message { envelope, message } => {
            let asked = envelope.parsed.get("ask").and_then(Value::as_str);
            (asked.unwrap_or("ignore"), message.position.clone())
        }
        Source::Timer(timer) => ("fired", timer.set_by.clone()),
    };
    let seconds = |seconds| Duration::from_secs(seconds);
    let defer = |delay| {
        Ok(Decision::Defer {
            reason: "not yet".to_owned(),
            delay,
        })
    };
    let fault = |kind| Err(Unanswered::Fault(Fault::new(kind, "as asked")));
    let timer = TimerOrder::Set {
        name: "t".to_owned(),
        due: cause.at.saturating_add(5_000),
        data: "{}".to_owned(),
    };
    let cancel = TimerOrder::Cancel {
        name: "t".to_owned(),
    };
    Ok(match (asked, task) {
        ("create", None) | ("step" | "fired" | "patient", Some(_)) => {
            apply(task, &at, asked, vec![])
        }
        ("step", None) => return defer(seconds(2)),
        // Longer than anybody should have to wait for a task that is there.
        ("patient", None) => return defer(seconds(50)),
        ("wait", task) if task.is_none_or(|task| task.version < 3) => return defer(seconds(2)),
        ("wait", Some(_)) => apply(task, &at, asked, vec![]),
        ("timer", Some(_)) => apply(task, &at, asked, vec![timer]),
        ("untimer", Some(_)) => apply(task, &at, asked, vec![cancel]),
        ("unstorable", Some(_)) => apply(task, &at, UNSTORABLE, vec![]),
        ("reject", _) => Decision::Reject {
            code: "no-way".to_owned(),
            reason: "as asked".to_owned(),
        },
        ("fault", _) => return fault(Kind::Trap),
        ("slow", _) => return fault(Kind::Deadline),
        _ => Decision::Ignore {
            reason: "nothing to do".to_owned(),
        },
    })
}

/// The task's data after a change: a hash over all changes so far, so that a change made on other data shows.
pub(crate) fn linked(before: Option<&str>, at: &Position, asked: &str) -> String {
    let before = before.unwrap_or("");
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in format!("{before}|{at}|{asked}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    json!({ "link": format!("{hash:016x}"), "by": asked }).to_string()
}

fn apply(task: Option<&Task>, at: &Position, asked: &str, timers: Vec<TimerOrder>) -> Decision {
    let data = linked(task.map(|task| &*task.data), at, asked);
    let version = task.map_or(0, |task| task.version) + 1;
    let status = match version % 2 {
        0 => "busy",
        _ => "open",
    };
    let said = json!({ "at": at.to_string(), "asked": asked, "data": data, "version": version });
    Decision::Apply(Transition {
        status: status.to_owned(),
        data,
        events: vec![Event {
            kind: "changed".to_owned(),
            data: said.to_string(),
        }],
        messages: vec![Outgoing {
            topic: OUTPUT.to_owned(),
            key: None,
            body: said.to_string(),
            headers: vec![],
        }],
        timers,
    })
}
