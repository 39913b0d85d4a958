//! A message given up on: kept whole, with the reason, as a row and as a record on the dead letter topic.
//!
//! The record has the original key, value, headers and timestamp, Kafka Connect's `__connect.errors.*`
//! headers (UTF-8 text, as its `DeadLetterQueueReporter` writes them) and taskhost's own. Texts are cut and headers of an earlier
//! failure replaced, so that a dead letter fits where its message fitted.

use std::sync::Arc;

use uuid::Uuid;

use crate::limits::{DEAD_LETTER_BACKTRACE_BYTES_MAX, DEAD_LETTER_MESSAGE_BYTES_MAX, cut};
use crate::record::{Header, Message, Record, set_header};
use crate::task::{PluginVersion, TaskId};
use crate::timestamp;

/// Prefix of Kafka Connect's headers.
const CONNECT: &str = "__connect.errors.";

/// Prefix of taskhost's own headers.
const OWN: &str = "taskhost-dlq-";

/// A dead letter's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id: derived from the record's seed, so that deciding again makes the same one.
    pub id: Uuid,
    /// The record as it came.
    pub message: Arc<Message>,
    /// Why: short, lower case, hyphenated.
    pub code: String,
    /// Why, for people.
    pub reason: String,
    /// The guest's backtrace, if the plugin faulted.
    pub backtrace: Option<String>,
    /// Where in the path of a message it failed.
    pub stage: Stage,
    /// How often it was decided before it was given up.
    pub attempts: i32,
    /// The task it was for, if that is known.
    pub task_id: Option<TaskId>,
    /// Name of its route, if that is known.
    pub route: Option<String>,
    /// The plugin that decided, if it came so far.
    pub plugin: Option<Arc<PluginVersion>>,
    /// When it failed first, in milliseconds since 1970.
    pub failed_at: i64,
}

/// Where in the path of a message it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The bytes are no message.
    Decode,
    /// The plugin rejected it, faulted on it, or deferred it too often.
    Decide,
}

impl Stage {
    /// As Kafka Connect names the stages of a record's way.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "VALUE_CONVERTER",
            Self::Decide => "TASK_PUT",
        }
    }
}

impl DeadLetter {
    /// The record for the dead letter topic.
    pub fn record(&self, topic: &str, group: &str) -> Record {
        let Message {
            position,
            key,
            value,
            headers,
            timestamp,
            ..
        } = &*self.message;
        let mut kept: Vec<Header> = headers
            .iter()
            .filter(|(name, _)| !name.starts_with(CONNECT) && !name.starts_with(OWN))
            .cloned()
            .collect();
        for (name, text) in self.connect_headers(position, headers, group) {
            set_header(&mut kept, &format!("{CONNECT}{name}"), text);
        }
        for (name, text) in self.own_headers() {
            set_header(&mut kept, &format!("{OWN}{name}"), text);
        }
        Record {
            topic: topic.to_owned(),
            key: key.clone(),
            value: value.clone(),
            headers: kept,
            timestamp: timestamp::is_valid(*timestamp).then_some(*timestamp),
        }
    }

    /// The record for a topic that doesn't take it whole: without value and original headers, which
    /// stay in the row, and with a header that says so.
    pub fn record_without_value(&self, topic: &str, group: &str) -> Record {
        let mut record = self.record(topic, group);
        record.value = None;
        record
            .headers
            .retain(|(name, _)| name.starts_with(CONNECT) || name.starts_with(OWN));
        record
            .headers
            .retain(|(name, _)| !name.ends_with("stacktrace"));
        set_header(&mut record.headers, &format!("{OWN}truncated"), "true");
        record
    }

    /// Kafka Connect's headers. The coordinates of an earlier failure stay: a message that went through
    /// another dead letter topic keeps its origin.
    fn connect_headers(
        &self,
        position: &crate::record::Position,
        headers: &[Header],
        group: &str,
    ) -> Vec<(&'static str, String)> {
        let earlier = |name: &str| {
            let name = format!("{CONNECT}{name}");
            headers
                .iter()
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| String::from_utf8(value.clone()?).ok())
        };
        let plugin = self
            .plugin
            .as_ref()
            .map_or("taskhost", |plugin| plugin.name.as_str());
        let mut all = vec![
            (
                "topic",
                earlier("topic").unwrap_or_else(|| position.topic.to_string()),
            ),
            (
                "partition",
                earlier("partition").unwrap_or_else(|| position.partition.to_string()),
            ),
            (
                "offset",
                earlier("offset").unwrap_or_else(|| position.offset.to_string()),
            ),
            ("connector.name", group.to_owned()),
            ("task.id", position.partition.to_string()),
            ("stage", self.stage.name().to_owned()),
            ("class.name", plugin.to_owned()),
            ("exception.class.name", self.code.clone()),
            (
                "exception.message",
                cut(&self.reason, DEAD_LETTER_MESSAGE_BYTES_MAX).to_owned(),
            ),
        ];
        if let Some(backtrace) = &self.backtrace {
            all.push((
                "exception.stacktrace",
                cut(backtrace, DEAD_LETTER_BACKTRACE_BYTES_MAX).to_owned(),
            ));
        }
        all
    }

    fn own_headers(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("id", self.id.to_string()),
            ("code", self.code.clone()),
            ("attempts", self.attempts.to_string()),
            ("first-failed-at", timestamp::to_rfc3339(self.failed_at)),
            ("replays", "0".to_owned()),
        ];
        if let Some(plugin) = &self.plugin {
            all.push(("plugin", plugin.name.clone()));
            all.push(("plugin-version", plugin.version.clone()));
            all.push(("plugin-digest", plugin.digest.clone()));
        }
        all
    }
}
