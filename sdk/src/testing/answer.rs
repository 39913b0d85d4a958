//! A plugin's answer, taken apart for assertions.

use std::time::Duration;

use serde_json::Value;

use crate::bindings::taskhost::plugin::types;
use crate::{Level, Task, Timestamp};

/// A checked answer.
#[derive(Debug, Clone)]
#[must_use]
pub struct Answer {
    decision: types::Decision,
    after: Option<Task>,
    log: Vec<(Level, String)>,
}

/// An answer that creates or changes the task.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The status after.
    pub status: String,
    /// The data after.
    pub data: Value,
    /// Kind and data of each event.
    pub events: Vec<(String, Value)>,
    /// The messages to send.
    pub messages: Vec<Sent>,
    /// The timers to set or cancel.
    pub timers: Vec<TimerOrder>,
    /// The task after, to decide the next cause on.
    pub task: Task,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The logical topic.
    pub topic: String,
    /// The key, if it isn't the task's id.
    pub key: Option<String>,
    /// The body.
    pub body: Value,
    /// Further record headers.
    pub headers: Vec<(String, String)>,
}

/// A timer that the answer sets or cancels.
#[derive(Debug, Clone, PartialEq)]
pub enum TimerOrder {
    /// It is set.
    Set {
        /// Its name.
        name: String,
        /// When it is due.
        due: Timestamp,
        /// Its data.
        data: Value,
    },
    /// It is cancelled.
    Cancel(String),
}

impl Answer {
    pub(super) fn new(
        decision: types::Decision,
        after: Option<Task>,
        log: Vec<(Level, String)>,
    ) -> Self {
        Self {
            decision,
            after,
            log,
        }
    }

    /// The lines that the plugin logged while it decided.
    #[must_use]
    pub fn logged(&self) -> &[(Level, String)] {
        &self.log
    }

    /// The applied transition.
    ///
    /// # Panics
    ///
    /// If the answer is another one.
    #[must_use]
    pub fn applied(self) -> Applied {
        let (types::Decision::Apply(transition), Some(task)) = (&self.decision, self.after) else {
            panic!("not applied: {:?}", self.decision);
        };
        Applied {
            status: transition.status.clone(),
            data: parse(&transition.data),
            events: transition
                .events
                .iter()
                .map(|event| (event.kind.clone(), parse(&event.data)))
                .collect(),
            messages: transition.messages.iter().map(sent).collect(),
            timers: transition.timers.iter().map(timer).collect(),
            task,
        }
    }

    /// The reason of an ignored cause.
    ///
    /// # Panics
    ///
    /// If the answer is another one.
    #[expect(
        clippy::must_use_candidate,
        reason = "mostly only that it is ignored matters"
    )]
    pub fn ignored(self) -> String {
        match self.decision {
            types::Decision::Ignore(reason) => reason,
            other => panic!("not ignored: {other:?}"),
        }
    }

    /// The delay of a deferred cause.
    ///
    /// # Panics
    ///
    /// If the answer is another one.
    #[must_use]
    pub fn deferred(self) -> Duration {
        match self.decision {
            types::Decision::Defer(deferral) => Duration::from_millis(deferral.delay),
            other => panic!("not deferred: {other:?}"),
        }
    }

    /// The code of a rejection.
    ///
    /// # Panics
    ///
    /// If the answer is another one.
    #[must_use]
    pub fn rejected(self) -> String {
        match self.decision {
            types::Decision::Reject(rejection) => rejection.code,
            other => panic!("not rejected: {other:?}"),
        }
    }

    /// The sentence of a rejection.
    ///
    /// # Panics
    ///
    /// If the answer is another one.
    #[must_use]
    pub fn rejected_because(self) -> String {
        match self.decision {
            types::Decision::Reject(rejection) => rejection.reason,
            other => panic!("not rejected: {other:?}"),
        }
    }
}

fn sent(message: &types::Outgoing) -> Sent {
    Sent {
        topic: message.topic.clone(),
        key: message.key.clone(),
        body: parse(&message.body),
        headers: message
            .headers
            .iter()
            .map(|field| (field.name.clone(), field.value.clone()))
            .collect(),
    }
}

fn timer(order: &types::TimerOrder) -> TimerOrder {
    match order {
        types::TimerOrder::Set(timer) => TimerOrder::Set {
            name: timer.name.clone(),
            due: Timestamp::from_millis(timer.due),
            data: parse(&timer.data),
        },
        types::TimerOrder::Cancel(name) => TimerOrder::Cancel(name.clone()),
    }
}

fn parse(json: &str) -> Value {
    serde_json::from_str(json).expect("checked to be JSON")
}
