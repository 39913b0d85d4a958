//! A cause, and the task that it finds.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Answer, check};
use crate::bindings::taskhost::plugin::types;
use crate::{Plugin, Rejection, Task, Timestamp, component, decision, json, log};

/// 2024-01-01T00:00:00.000Z: the time of a cause that isn't given one.
const NOW_MS: i64 = 1_704_067_200_000;

/// A message with that body: partition 0, offset 0, at 2024-01-01T00:00:00Z, for no task yet.
///
/// # Panics
///
/// When the body can't be written as JSON.
pub fn message(body: impl Serialize) -> Case {
    let body = serde_json::to_string(&body).expect("a body can be written as JSON");
    Case::new(types::Cause::Message(types::Message {
        cause: 0,
        topic: String::new(),
        partition: 0,
        offset: 0,
        timestamp: NOW_MS,
        seed: seed(0, 0),
        attempt: 0,
        key: None,
        headers: Vec::new(),
        envelope: Vec::new(),
        meta: types::Meta {
            task_id: None,
            task_type: "test".to_owned(),
            request_id: None,
            timestamp: NOW_MS,
            trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        },
        body,
    }))
}

/// A timer that is due at 2024-01-01T00:00:00Z. Give it its task with [`Case::on`].
///
/// # Panics
///
/// When the data can't be written as JSON.
pub fn wakeup(name: &str, data: impl Serialize) -> Case {
    Case::new(types::Cause::Wakeup(types::Wakeup {
        cause: 0,
        name: name.to_owned(),
        due: NOW_MS,
        seed: seed(u32::MAX, 0),
        attempt: 0,
        data: serde_json::to_string(&data).expect("data can be written as JSON"),
    }))
}

/// A stored task of version 1 and type `test`, created at 2024-01-01T00:00:00Z.
///
/// # Panics
///
/// When the data can't be written as JSON.
#[must_use]
pub fn task(id: &str, status: &str, data: impl Serialize) -> Task {
    Task::new(types::Task {
        id: id.to_owned(),
        type_: "test".to_owned(),
        status: status.to_owned(),
        data: serde_json::to_string(&data).expect("data can be written as JSON"),
        version: 1,
        created_at: NOW_MS,
        updated_at: NOW_MS,
    })
}

/// One question to a plugin, built step by step.
#[derive(Debug, Clone)]
#[must_use]
pub struct Case {
    cause: types::Cause,
    task: Option<Task>,
    task_id: Option<String>,
    config: String,
}

impl Case {
    fn new(cause: types::Cause) -> Self {
        Self {
            cause,
            task: None,
            task_id: None,
            config: "{}".to_owned(),
        }
    }

    /// The task as stored; its id is the cause's.
    pub fn on(mut self, task: Task) -> Self {
        self.task = Some(task);
        self
    }

    /// The route's configuration.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it is written in place with `json!`"
    )]
    pub fn config(mut self, config: Value) -> Self {
        self.config = config.to_string();
        self
    }

    /// The task's id, instead of the id in the places of the description.
    pub fn task_id(mut self, id: &str) -> Self {
        self.task_id = Some(id.to_owned());
        self
    }

    /// The record's time, or the moment the timer is due.
    ///
    /// # Panics
    ///
    /// When it is not an RFC 3339 time.
    pub fn at(mut self, time: &str) -> Self {
        let millis = Timestamp::parse(time).expect("an RFC 3339 time").millis();
        match &mut self.cause {
            types::Cause::Message(message) => message.timestamp = millis,
            types::Cause::Wakeup(wakeup) => wakeup.due = millis,
        }
        self
    }

    /// How often it was deferred before.
    pub fn attempt(mut self, attempt: u32) -> Self {
        match &mut self.cause {
            types::Cause::Message(message) => message.attempt = attempt,
            types::Cause::Wakeup(wakeup) => wakeup.attempt = attempt,
        }
        self
    }

    /// The partition and offset that the message came from.
    pub fn position(self, partition: u32, offset: u64) -> Self {
        self.with(|message| {
            (message.partition, message.offset) = (partition, offset);
            message.seed = seed(partition, offset);
        })
    }

    /// The logical topic of the message, instead of the first that the plugin consumes.
    pub fn topic(self, topic: &str) -> Self {
        self.with(|message| topic.clone_into(&mut message.topic))
    }

    /// The record's key.
    pub fn key(self, key: &str) -> Self {
        self.with(|message| message.key = Some(key.as_bytes().to_vec()))
    }

    /// One more record header.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|message| message.headers.push(field(name, value)))
    }

    /// One more field of the envelope's `headers`.
    pub fn envelope(self, name: &str, value: &str) -> Self {
        self.with(|message| message.envelope.push(field(name, value)))
    }

    /// The message's task type.
    pub fn task_type(self, task_type: &str) -> Self {
        self.with(|message| task_type.clone_into(&mut message.meta.task_type))
    }

    /// The message's request id.
    pub fn request_id(self, id: &str) -> Self {
        self.with(|message| message.meta.request_id = Some(id.to_owned()))
    }

    fn with(mut self, change: impl FnOnce(&mut types::Message)) -> Self {
        match &mut self.cause {
            types::Cause::Message(message) => change(message),
            types::Cause::Wakeup(_) => panic!("only a message has that"),
        }
        self
    }

    /// Asks the plugin twice, and checks its answer like the host.
    ///
    /// # Panics
    ///
    /// When the configuration is refused, the description is inconsistent, the two answers differ, or the description doesn't
    /// cover the answer.
    pub fn decide<P: Plugin>(mut self) -> Answer {
        let description = component::describe::<P>(&self.config).expect("a good configuration");
        let descriptor = description.descriptor();
        check::descriptor(descriptor);
        if let types::Cause::Message(message) = &mut self.cause
            && message.topic.is_empty()
        {
            message.topic = descriptor.consumes.first().cloned().unwrap_or_default();
        }

        let Some(id) = self.find_task_id(descriptor) else {
            let missing =
                Rejection::new("task-id-missing", "no task id where the description says");
            return Answer::new(decision::to_wit(Err(missing)), None, Vec::new());
        };
        log::take();
        let answer = self.ask::<P>(&id);
        let lines = log::take();
        assert_eq!(
            answer,
            self.ask::<P>(&id),
            "the same question got two answers"
        );
        log::take();
        check::decision(descriptor, self.task.as_ref(), &answer);
        let after = match &answer {
            types::Decision::Apply(transition) => {
                Some(component::after(self.task, &id, &self.cause, transition))
            }
            _ => None,
        };
        Answer::new(answer, after, lines)
    }

    fn ask<P: Plugin>(&self, id: &str) -> types::Decision {
        let config: P::Config = json::read_config(&self.config).expect("described with it");
        let task = self.task.as_ref();
        decision::to_wit(match &self.cause {
            types::Cause::Message(message) => {
                component::on_message::<P>(&config, task, id, message)
            }
            types::Cause::Wakeup(wakeup) => component::on_wakeup::<P>(&config, task, id, wakeup),
        })
    }

    fn find_task_id(&self, descriptor: &types::Descriptor) -> Option<String> {
        let given = self
            .task_id
            .clone()
            .or_else(|| self.task.as_ref().map(|task| task.id().to_owned()));
        if given.is_some() {
            return given;
        }
        let types::Cause::Message(message) = &self.cause else {
            panic!("give the timer its task with `on`");
        };
        let body: Value = serde_json::from_str(&message.body).expect("written by `message`");
        let named = |fields: &[types::Field], name: &str| {
            fields
                .iter()
                .rfind(|field| field.name == name)
                .map(|field| field.value.clone())
        };
        descriptor.task_id.iter().find_map(|source| match source {
            types::TaskIdSource::Body(pointer) => {
                body.pointer(pointer)?.as_str().map(str::to_owned)
            }
            types::TaskIdSource::Envelope(name) => named(&message.envelope, name),
            types::TaskIdSource::Header(name) => named(&message.headers, name),
            types::TaskIdSource::Key => String::from_utf8(message.key.clone()?).ok(),
            types::TaskIdSource::Position => Some(message.seed.clone()),
        })
    }

    /// The cause in the host's types, for tests of the fold itself.
    #[cfg(test)]
    pub(crate) fn into_cause(self) -> types::Cause {
        self.cause
    }
}

/// Replaces the UUID that the host derives from topic id, partition and offset.
fn seed(partition: u32, offset: u64) -> String {
    let position = format!("{partition}/{offset}");
    Uuid::new_v5(&Uuid::NAMESPACE_OID, position.as_bytes()).to_string()
}

fn field(name: &str, value: &str) -> types::Field {
    types::Field {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}
