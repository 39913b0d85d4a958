//! Converts core's types to the interface's and back.
//!
//! Nothing is checked here: [`taskhost_core::decision::check`] decides whether an answer is allowed.

use std::time::Duration;

use taskhost_core::cause::{Cause, Source};
use taskhost_core::decision::{Decision, Event, Outgoing, TimerOrder, Transition};
use taskhost_core::descriptor::{Descriptor, Status, TaskIdSource};
use taskhost_core::record::Message;
use taskhost_core::task::Task;
use taskhost_core::timestamp::MILLIS_MAX;

use super::bindings::taskhost::plugin::types as wit;
use taskhost_core::round::Work;

/// The question for a plugin, in the interface's types. `topic` is the logical topic of the messages.
pub(super) fn works(works: &[Work<'_>], topic: &str) -> Vec<wit::Work> {
    works.iter().map(|one| work(one, topic)).collect()
}

fn work(work: &Work<'_>, topic: &str) -> wit::Work {
    wit::Work {
        task_id: work.task_id.as_str().to_owned(),
        task: work.task.map(task),
        causes: work
            .causes
            .iter()
            .zip(&work.numbers)
            .map(|(one, number)| cause(one, *number, topic))
            .collect(),
    }
}

fn task(task: &Task) -> wit::Task {
    wit::Task {
        id: task.id.as_str().to_owned(),
        type_: task.kind.as_ref().to_owned(),
        status: task.status.as_ref().to_owned(),
        data: task.data.as_ref().to_owned(),
        version: u64::try_from(task.version).unwrap_or_default(),
        created_at: task.created_at,
        updated_at: task.updated_at,
    }
}

fn cause(cause: &Cause, number: u32, topic: &str) -> wit::Cause {
    let seed = cause.seed.hyphenated().to_string();
    let attempt = u32::try_from(cause.attempt()).unwrap_or_default();
    match &cause.source {
        Source::Message { message, envelope } => wit::Cause::Message(wit::Message {
            cause: number,
            topic: topic.to_owned(),
            partition: u32::try_from(message.position.partition).unwrap_or_default(),
            offset: u64::try_from(message.position.offset).unwrap_or_default(),
            timestamp: cause.at,
            seed,
            attempt,
            key: message.key.clone(),
            headers: headers(message),
            envelope: envelope
                .headers
                .iter()
                .map(|(name, value)| field(name, value))
                .collect(),
            meta: wit::Meta {
                task_id: envelope.meta.task_id.clone(),
                task_type: cause.task_type.as_ref().to_owned(),
                request_id: envelope.meta.request_id.clone(),
                timestamp: envelope.meta.timestamp.unwrap_or(message.timestamp),
                trace_id: cause.trace.trace_id.clone(),
            },
            body: envelope.body.clone(),
        }),
        Source::Timer(timer) => wit::Cause::Wakeup(wit::Wakeup {
            cause: number,
            name: timer.name.clone(),
            due: timer.due,
            seed,
            attempt,
            data: timer.data.clone(),
        }),
    }
}

/// The record headers that are text.
fn headers(message: &Message) -> Vec<wit::Field> {
    let text = |value: &Option<Vec<u8>>| {
        value
            .as_deref()
            .and_then(|bytes| std::str::from_utf8(bytes).ok().map(str::to_owned))
    };
    message
        .headers
        .iter()
        .filter_map(|(name, value)| Some(field(name, &text(value)?)))
        .collect()
}

fn field(name: &str, value: &str) -> wit::Field {
    wit::Field {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// A plugin's answer in core's types.
pub(super) fn decisions(answer: Vec<Vec<wit::Decision>>) -> Vec<Vec<Decision>> {
    answer
        .into_iter()
        .map(|work| work.into_iter().map(decision).collect())
        .collect()
}

fn decision(decision: wit::Decision) -> Decision {
    match decision {
        wit::Decision::Apply(it) => Decision::Apply(transition(it)),
        wit::Decision::Ignore(reason) => Decision::Ignore { reason },
        wit::Decision::Defer(wit::Deferral { reason, delay }) => {
            // A delay beyond the year 9999 counts as forever, and adding it to now can't overflow.
            let delay = Duration::from_millis(delay.min(MILLIS_MAX.unsigned_abs()));
            Decision::Defer { reason, delay }
        }
        wit::Decision::Reject(wit::Rejection { code, reason }) => Decision::Reject { code, reason },
    }
}

fn transition(it: wit::Transition) -> Transition {
    Transition {
        status: it.status,
        data: it.data,
        events: it
            .events
            .into_iter()
            .map(|wit::Event { kind, data }| Event { kind, data })
            .collect(),
        messages: it.messages.into_iter().map(outgoing).collect(),
        timers: it.timers.into_iter().map(timer).collect(),
    }
}

fn outgoing(it: wit::Outgoing) -> Outgoing {
    let headers = it
        .headers
        .into_iter()
        .map(|field| (field.name, field.value))
        .collect();
    Outgoing {
        topic: it.topic,
        key: it.key,
        body: it.body,
        headers,
    }
}

fn timer(it: wit::TimerOrder) -> TimerOrder {
    match it {
        wit::TimerOrder::Set(wit::Timer { name, due, data }) => TimerOrder::Set { name, due, data },
        wit::TimerOrder::Cancel(name) => TimerOrder::Cancel { name },
    }
}

/// A plugin's description in core's types.
pub(super) fn descriptor(it: wit::Descriptor) -> Descriptor {
    Descriptor {
        name: it.name,
        version: it.version,
        statuses: it
            .statuses
            .into_iter()
            .map(
                |wit::Status {
                     name,
                     initial,
                     terminal,
                 }| Status {
                    name,
                    initial,
                    terminal,
                },
            )
            .collect(),
        transitions: it
            .transitions
            .into_iter()
            .map(|rule| (rule.from, rule.to))
            .collect(),
        consumes: it.consumes,
        produces: it.produces,
        events: it.events,
        task_id: it.task_id.into_iter().map(task_id_source).collect(),
    }
}

fn task_id_source(it: wit::TaskIdSource) -> TaskIdSource {
    match it {
        wit::TaskIdSource::Body(pointer) => TaskIdSource::Body(pointer),
        wit::TaskIdSource::Envelope(name) => TaskIdSource::Envelope(name),
        wit::TaskIdSource::Header(name) => TaskIdSource::Header(name),
        wit::TaskIdSource::Key => TaskIdSource::Key,
        wit::TaskIdSource::Position => TaskIdSource::Position,
    }
}
