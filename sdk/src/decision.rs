//! A plugin's answer: decisions, transitions, rejections.

use std::time::Duration;

use serde::Serialize;

use crate::Timestamp;
use crate::bindings::taskhost::plugin::types;

/// The decision about a cause. The fourth answer, a dead letter, is an `Err` with a [`Rejection`].
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Decision {
    /// The task is created or changed.
    Apply(Transition),
    /// Nothing changes; the reason is counted and logged.
    Ignore(String),
    /// Not yet: the cause waits. Later causes of its task from the same partition wait behind it, once the task exists.
    Defer {
        /// A sentence for people.
        reason: String,
        /// How long until the next try. The host doubles it with each further one, and tries sooner when
        /// the task changes.
        delay: Duration,
    },
}

impl Decision {
    /// Nothing changes.
    pub fn ignore(reason: impl Into<String>) -> Self {
        Self::Ignore(reason.into())
    }

    /// Not yet.
    pub fn defer(reason: impl Into<String>, delay: Duration) -> Self {
        Self::Defer {
            reason: reason.into(),
            delay,
        }
    }
}

/// Why a message is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    code: String,
    reason: String,
}

impl Rejection {
    /// A short code in lower case with hyphens, such as `invalid-email`, and a sentence for people without
    /// payloads or personal data: it is logged.
    #[must_use]
    pub fn new(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: reason.into(),
        }
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The effect of a cause on its task.
///
/// All data must be serializable as JSON. If they aren't (for example a map whose keys are not strings), the call panics, and
/// the host counts it as the plugin's fault.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Transition(types::Transition);

impl Transition {
    /// Moves the task to a status, or creates it in one. Its data is an empty object unless [`data`](Self::data) sets
    /// it.
    pub fn to(status: &str) -> Self {
        Self(types::Transition {
            status: status.to_owned(),
            data: "{}".to_owned(),
            events: Vec::new(),
            messages: Vec::new(),
            timers: Vec::new(),
        })
    }

    /// The task's data after. It replaces the data before.
    pub fn data(mut self, data: &impl Serialize) -> Self {
        self.0.data = write(data);
        self
    }

    /// Adds an entry to the task's history, with data for its readers: an object; `&()` is an empty one.
    pub fn event(mut self, kind: &str, data: &impl Serialize) -> Self {
        self.0.events.push(types::Event {
            kind: kind.to_owned(),
            data: object(data),
        });
        self
    }

    /// Sends a message.
    pub fn send(mut self, message: Outgoing) -> Self {
        self.0.messages.push(message.0);
        self
    }

    /// Sets a timer, or replaces the one of that name: [`Plugin::wakeup`](crate::Plugin::wakeup) is called
    /// when it is due, with the data.
    pub fn set_timer(mut self, name: &str, due: Timestamp, data: &impl Serialize) -> Self {
        let timer = types::Timer {
            name: name.to_owned(),
            due: due.millis(),
            data: write(data),
        };
        self.0.timers.push(types::TimerOrder::Set(timer));
        self
    }

    /// Cancels a timer, if it exists.
    pub fn cancel_timer(mut self, name: &str) -> Self {
        self.0
            .timers
            .push(types::TimerOrder::Cancel(name.to_owned()));
        self
    }

    /// The transition in the host's types.
    #[must_use]
    pub fn raw(&self) -> &types::Transition {
        &self.0
    }
}

impl From<Transition> for Decision {
    fn from(transition: Transition) -> Self {
        Self::Apply(transition)
    }
}

/// A message to send. The host wraps it in an envelope and adds the meta fields and the trace.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Outgoing(types::Outgoing);

impl Outgoing {
    /// A message to a logical topic, with the task's id as its key. The body must be an object.
    pub fn to(topic: &str, body: &impl Serialize) -> Self {
        Self(types::Outgoing {
            topic: topic.to_owned(),
            key: None,
            body: object(body),
            headers: Vec::new(),
        })
    }

    /// Sets another key.
    pub fn key(mut self, key: &str) -> Self {
        self.0.key = Some(key.to_owned());
        self
    }

    /// Adds a record header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.push(types::Field {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        self
    }
}

/// The answer of `decide` to one cause, in the host's types.
pub(crate) fn to_wit(answer: Result<Decision, Rejection>) -> types::Decision {
    match answer {
        Ok(Decision::Apply(transition)) => types::Decision::Apply(transition.0),
        Ok(Decision::Ignore(reason)) => types::Decision::Ignore(reason),
        Ok(Decision::Defer { reason, delay }) => types::Decision::Defer(types::Deferral {
            reason,
            delay: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        }),
        Err(Rejection { code, reason }) => {
            types::Decision::Reject(types::Rejection { code, reason })
        }
    }
}

fn write(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("a plugin's data can be written as JSON")
}

fn object(data: &impl Serialize) -> String {
    let json = write(data);
    if json == "null" {
        "{}".to_owned()
    } else {
        json
    }
}
