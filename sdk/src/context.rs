//! The context of a cause: its time, its ids, its headers, and a log.

use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::bindings::taskhost::plugin::types;
use crate::{Level, Rejection, Timestamp, json, log};

/// Everything about a cause except its body. The same cause always gives the same context.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    task_id: &'a str,
    cause: Source<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Message(&'a types::Message),
    Wakeup(&'a types::Wakeup, &'a str),
}

impl<'a> Context<'a> {
    pub(crate) fn of_message(task_id: &'a str, message: &'a types::Message) -> Self {
        Self {
            task_id,
            cause: Source::Message(message),
        }
    }

    pub(crate) fn of_wakeup(
        task_id: &'a str,
        task_type: &'a str,
        wakeup: &'a types::Wakeup,
    ) -> Self {
        Self {
            task_id,
            cause: Source::Wakeup(wakeup, task_type),
        }
    }

    /// The record's timestamp, or the moment at which the timer was due. Use it as the current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(match self.cause {
            Source::Message(message) => message.timestamp,
            Source::Wakeup(wakeup, _) => wakeup.due,
        })
    }

    /// A UUID (version 5) that is unique for this cause and this name, and the same each time.
    #[must_use]
    pub fn uuid(&self, name: &str) -> Uuid {
        let seed = match self.cause {
            Source::Message(message) => &message.seed,
            Source::Wakeup(wakeup, _) => &wakeup.seed,
        };
        let namespace = Uuid::try_parse(seed)
            .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, seed.as_bytes()));
        Uuid::new_v5(&namespace, name.as_bytes())
    }

    /// The id of the task, whether it exists yet or not.
    #[must_use]
    pub fn task_id(&self) -> &'a str {
        self.task_id
    }

    /// The task's type: the message's `taskType`, else its `requestType`, else the route's default.
    #[must_use]
    pub fn task_type(&self) -> &'a str {
        match self.cause {
            Source::Message(message) => &message.meta.task_type,
            Source::Wakeup(_, task_type) => task_type,
        }
    }

    /// The message's `requestId`.
    #[must_use]
    pub fn request_id(&self) -> Option<&'a str> {
        self.message()?.meta.request_id.as_deref()
    }

    /// The message's own `timestamp`, else the record's. Unlike [`now`](Self::now), the sender chose it.
    #[must_use]
    pub fn sent_at(&self) -> Timestamp {
        self.message().map_or_else(
            || self.now(),
            |message| Timestamp::from_millis(message.meta.timestamp),
        )
    }

    /// The trace's id, 32 hexadecimal digits; a timer has none.
    #[must_use]
    pub fn trace_id(&self) -> Option<&'a str> {
        Some(&self.message()?.meta.trace_id)
    }

    /// The logical topic that the message came from; a timer has none.
    #[must_use]
    pub fn topic(&self) -> Option<&'a str> {
        Some(&self.message()?.topic)
    }

    /// Partition and offset that the message came from; a timer has none.
    #[must_use]
    pub fn position(&self) -> Option<(u32, u64)> {
        self.message()
            .map(|message| (message.partition, message.offset))
    }

    /// The record's key.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.message()?.key.as_deref()
    }

    /// The last record header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        find(&self.message()?.headers, name)
    }

    /// The field of that name in the envelope's `headers`.
    #[must_use]
    pub fn envelope(&self, name: &str) -> Option<&'a str> {
        find(&self.message()?.envelope, name)
    }

    /// How often this cause was deferred before.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match self.cause {
            Source::Message(message) => message.attempt,
            Source::Wakeup(wakeup, _) => wakeup.attempt,
        }
    }

    /// The message's body, read as another type: for fields that a plugin keeps without using them.
    ///
    /// # Errors
    ///
    /// Code `invalid-body`: the body doesn't fit the type. A timer's body is an empty object.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        let body = self.message().map_or("{}", |message| message.body.as_str());
        json::read(body).map_err(|what| Rejection::new("invalid-body", what))
    }

    /// Writes a line to the host's log, with this cause's coordinates. No payloads, no personal data.
    pub fn log(&self, level: Level, message: &str) {
        let cause = match self.cause {
            Source::Message(message) => message.cause,
            Source::Wakeup(wakeup, _) => wakeup.cause,
        };
        log::write(level, cause, message);
    }

    /// A line for the author, off by default.
    pub fn debug(&self, message: &str) {
        self.log(Level::Debug, message);
    }

    /// A line worth reading.
    pub fn info(&self, message: &str) {
        self.log(Level::Info, message);
    }

    /// A line about a problem that was handled.
    pub fn warn(&self, message: &str) {
        self.log(Level::Warn, message);
    }

    /// A line about a problem that somebody must look at.
    pub fn error(&self, message: &str) {
        self.log(Level::Error, message);
    }

    fn message(&self) -> Option<&'a types::Message> {
        match self.cause {
            Source::Message(message) => Some(message),
            Source::Wakeup(..) => None,
        }
    }
}

/// Kafka allows a header to repeat; the last one counts, as with most clients.
fn find<'a>(fields: &'a [types::Field], name: &str) -> Option<&'a str> {
    fields
        .iter()
        .rfind(|field| field.name == name)
        .map(|field| field.value.as_str())
}
