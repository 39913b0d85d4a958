//! What a plugin may answer, and the check of each answer against what the plugin declared.
//!
//! An answer that breaks a rule is a [`Fault`] of the plugin, never something that gets as far as the
//! database: what Postgres could refuse is refused here.

use std::time::Duration;

use crate::descriptor::{Descriptor, is_name};
use crate::fault::{Fault, Kind};
use crate::json;
use crate::limits::{
    ANSWER_JSON_BYTES_MAX, CODE_BYTES_MAX, REASON_BYTES_MAX, TRANSITION_PARTS_MAX, cut,
};
use crate::task::Task;
use crate::timestamp;

/// A plugin's answer to one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The task is created or changed.
    Apply(Transition),
    /// Nothing changes.
    Ignore {
        /// Why, for people.
        reason: String,
    },
    /// The cause waits.
    Defer {
        /// Why, for people.
        reason: String,
        /// How long before the next try, before the host's own doubling.
        delay: Duration,
    },
    /// The message becomes a dead letter.
    Reject {
        /// Short, lower case, hyphenated.
        code: String,
        /// Why, for people.
        reason: String,
    },
}

/// What a cause does to its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The status after.
    pub status: String,
    /// The task's data after: JSON text.
    pub data: String,
    /// What happened; at least one.
    pub events: Vec<Event>,
    /// Messages to send.
    pub messages: Vec<Outgoing>,
    /// Timers to set or cancel.
    pub timers: Vec<TimerOrder>,
}

/// One entry for the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One of the descriptor's kinds.
    pub kind: String,
    /// A JSON object.
    pub data: String,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// One of the descriptor's logical topics.
    pub topic: String,
    /// The record's key; the task id if none.
    pub key: Option<String>,
    /// A JSON object.
    pub body: String,
    /// Further record headers.
    pub headers: Vec<(String, String)>,
}

/// What to do with one of the task's timers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerOrder {
    /// Set or replace it.
    Set {
        /// Its name within the task.
        name: String,
        /// Milliseconds since 1970.
        due: i64,
        /// What it brings back: JSON text.
        data: String,
    },
    /// Forget it.
    Cancel {
        /// Its name within the task.
        name: String,
    },
}

/// Checks an answer and cuts its texts to their bounds.
///
/// # Errors
/// The plugin's fault, if the answer is not one that its descriptor and the task's state allow.
pub fn check(
    decision: Decision,
    task: Option<&Task>,
    descriptor: &Descriptor,
) -> Result<Decision, Fault> {
    match decision {
        Decision::Apply(transition) => {
            check_status(&transition, task, descriptor)?;
            check_parts(&transition, descriptor)?;
            Ok(Decision::Apply(transition))
        }
        Decision::Ignore { reason } => Ok(Decision::Ignore {
            reason: clean(&reason),
        }),
        Decision::Defer { reason, delay } => Ok(Decision::Defer {
            reason: clean(&reason),
            delay,
        }),
        Decision::Reject { code, reason } => {
            let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if code.is_empty() || code.len() > CODE_BYTES_MAX || !code.chars().all(ok) {
                let code = cut(&code, CODE_BYTES_MAX).escape_debug().to_string();
                return malformed(format!(
                    "the rejection's code `{code}` is not short, lower case and hyphenated"
                ));
            }
            Ok(Decision::Reject {
                code,
                reason: clean(&reason),
            })
        }
    }
}

fn check_status(
    transition: &Transition,
    task: Option<&Task>,
    descriptor: &Descriptor,
) -> Result<(), Fault> {
    let to = &transition.status;
    let Some(status) = descriptor.status(to) else {
        return fault(
            Kind::UndeclaredStatus,
            format!("the descriptor has no status `{}`", clean(to)),
        );
    };
    match task {
        None if status.initial => Ok(()),
        None => fault(
            Kind::UndeclaredTransition,
            format!("a task can't be created as `{to}`: it is not initial"),
        ),
        Some(task) if descriptor.allows(&task.status, to) => Ok(()),
        Some(task) => fault(
            Kind::UndeclaredTransition,
            format!("the descriptor has no transition {} -> {to}", task.status),
        ),
    }
}

fn check_parts(transition: &Transition, descriptor: &Descriptor) -> Result<(), Fault> {
    let Transition {
        data,
        events,
        messages,
        timers,
        ..
    } = transition;
    if events.is_empty() {
        return malformed("a transition without an event: the history would miss it".to_owned());
    }
    for (what, count) in [
        ("events", events.len()),
        ("messages", messages.len()),
        ("timers", timers.len()),
    ] {
        if count > TRANSITION_PARTS_MAX {
            return fault(
                Kind::AnswerTooLarge,
                format!("{count} {what}, at most {TRANSITION_PARTS_MAX} are allowed"),
            );
        }
    }
    check_json("the task's data", data, json_any)?;
    for event in events {
        if !descriptor.events.contains(&event.kind) {
            let kind = clean(&event.kind);
            return fault(
                Kind::UndeclaredEvent,
                format!("the descriptor has no event `{kind}`"),
            );
        }
        check_json("an event's data", &event.data, json::check_object)?;
    }
    for message in messages {
        if !descriptor.produces.contains(&message.topic) {
            let topic = clean(&message.topic);
            return fault(
                Kind::UndeclaredTopic,
                format!("the descriptor does not produce to `{topic}`"),
            );
        }
        check_json("a message's body", &message.body, json::check_object)?;
        if message
            .headers
            .iter()
            .any(|(name, _)| name.is_empty() || name.contains('\0'))
        {
            return malformed("a message's header has an empty name or one with NUL".to_owned());
        }
    }
    for timer in timers {
        let (TimerOrder::Set { name, .. } | TimerOrder::Cancel { name }) = timer;
        if !is_name(name) {
            return malformed("a timer's name is empty, too long, or has a NUL".to_owned());
        }
        if let TimerOrder::Set { due, data, .. } = timer {
            if !timestamp::is_valid(*due) {
                return malformed(format!(
                    "the timer `{name}` is due at {due}, which is no time"
                ));
            }
            check_json("a timer's data", data, json_any)?;
        }
    }
    Ok(())
}

fn json_any(text: &str) -> Result<(), String> {
    json::check(text).map_err(|problem| problem.to_string())
}

fn check_json(what: &str, text: &str, check: fn(&str) -> Result<(), String>) -> Result<(), Fault> {
    if text.len() > ANSWER_JSON_BYTES_MAX {
        let reason = format!(
            "{what} has {} bytes, at most {ANSWER_JSON_BYTES_MAX} are allowed",
            text.len()
        );
        return fault(Kind::AnswerTooLarge, reason);
    }
    check(text).or_else(|problem| malformed(format!("{what}: {problem}")))
}

fn malformed<T>(reason: String) -> Result<T, Fault> {
    fault(Kind::MalformedAnswer, reason)
}

fn fault<T>(kind: Kind, reason: String) -> Result<T, Fault> {
    Err(Fault::new(kind, reason))
}

/// A text that Postgres can store, within its bound.
pub fn clean(text: &str) -> String {
    cut(text, REASON_BYTES_MAX).replace('\0', "\u{fffd}")
}
