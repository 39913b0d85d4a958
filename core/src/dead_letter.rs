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

/// Prefix of Spring Kafka's headers.
const SPRING: &str = "kafka_dlt-";

/// Bytes of a coordinate of an earlier failure: Kafka's bound on a topic's name, which is the longest of them.
const COORDINATE_BYTES_MAX: usize = 249;

/// Bytes of a header's text where there is room for hardly anything.
const SHORT_BYTES_MAX: usize = 256;
/// The header in which a timer that was given up has its name.
pub const TIMER_NAME: &str = "timerName";

/// A dead letter's row.
#[derive(Debug, Clone, PartialEq, Eq)]
// Many fields: each is a column of its row.
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
    /// What was given up.
    pub source: Source,
    /// How often it was decided again.
    pub replays: i32,
    /// Its place among what waits of its task in its partition. None for one that was imported, and for a timer.
    pub sequence: Option<i64>,
    /// Whether later messages of its task wait until it is replayed or discarded.
    pub holds: bool,
}

/// What is known of a dead letter while it is decided again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The dead letter.
    pub letter: Uuid,
    /// Which replay of it this is, from 1.
    pub number: i32,
    /// When it failed first, in milliseconds since 1970.
    pub failed_at: i64,
    /// What was given up.
    pub source: Source,
    /// Whether this replay waited before.
    pub is_waiting: bool,
    /// Whether later messages of its task wait until it is settled.
    pub holds: bool,
    /// Whether it was given up because its task didn't exist.
    pub was_missing: bool,
}

/// The code of a message that was given up because its task didn't exist.
pub const TASK_MISSING: &str = "task-missing";

/// What was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A record of the log: it has an outcome to be counted.
    Record,
    /// A timer, in the form of a record.
    Timer,
    /// A message that its topic refused.
    Outgoing,
}

impl Source {
    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Timer => "timer",
            Self::Outgoing => "outgoing",
        }
    }

    /// From its stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Record, Self::Timer, Self::Outgoing]
            .into_iter()
            .find(|source| source.name() == name)
    }
}

/// Where in the path of a message it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The bytes are no message.
    Decode,
    /// The plugin rejected it, faulted on it, or deferred it too often.
    Decide,
    /// Its topic doesn't take it; a person set it aside.
    Publish,
}

impl Stage {
    /// As Kafka Connect names the stages of a record's way.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "VALUE_CONVERTER",
            Self::Decide => "TASK_PUT",
            Self::Publish => "KAFKA_PRODUCE",
        }
    }
}

impl DeadLetter {
    /// The same, if it is a dead letter that failed again: it stays the one that it was.
    #[must_use]
    pub fn of_replay(self, replay: Option<&Replay>) -> Self {
        match replay {
            None => self,
            Some(replay) => Self {
                id: replay.letter,
                failed_at: replay.failed_at,
                source: replay.source,
                replays: replay.number,
                ..self
            },
        }
    }

    /// The record for the dead letter topic.
    pub fn record(&self, topic: &str, group: &str, spring: bool) -> Record {
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
        if spring {
            self.add_spring_headers(&mut kept, group);
        }
        Record {
            topic: topic.to_owned(),
            key: key.clone(),
            value: value.clone(),
            headers: kept,
            timestamp: timestamp::is_valid(*timestamp).then_some(*timestamp),
        }
    }

    /// As much of the record as its topic takes: all of it; else without value and original headers, which stay in the
    /// row, and with a header that says so; else without the key, too, and with less of the reason. None if the topic
    /// takes not even that: then the row alone tells of it.
    pub fn record_that_fits(
        &self,
        topic: &str,
        group: &str,
        spring: bool,
        fits: impl Fn(&Record) -> bool,
    ) -> Option<Record> {
        let whole = self.record(topic, group, spring);
        if fits(&whole) {
            return Some(whole);
        }
        let mut less = self.record_without_value(topic, group);
        if fits(&less) {
            return Some(less);
        }
        less.key = None;
        for (_, value) in &mut less.headers {
            *value = value.take().map(shortened);
        }
        fits(&less).then_some(less)
    }

    fn record_without_value(&self, topic: &str, group: &str) -> Record {
        let mut record = self.record(topic, group, false);
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
            let (_, value) = headers.iter().find(|(key, _)| *key == name)?;
            // A coordinate is short; what is not came from nobody's dead letter.
            let value = value
                .as_ref()
                .filter(|value| value.len() <= COORDINATE_BYTES_MAX)?;
            String::from_utf8(value.clone()).ok()
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

    /// Spring Kafka's headers, as its `DeadLetterPublishingRecoverer` writes them: numbers in big-endian bytes. The
    /// origin of an earlier failure stays.
    fn add_spring_headers(&self, headers: &mut Vec<Header>, group: &str) {
        let Message {
            position,
            timestamp,
            ..
        } = &*self.message;
        let origin: [(&str, Vec<u8>); 6] = [
            ("original-topic", position.topic.as_bytes().to_vec()),
            (
                "original-partition",
                position.partition.to_be_bytes().to_vec(),
            ),
            ("original-offset", position.offset.to_be_bytes().to_vec()),
            ("original-timestamp", timestamp.to_be_bytes().to_vec()),
            ("original-timestamp-type", b"CreateTime".to_vec()),
            ("original-consumer-group", group.as_bytes().to_vec()),
        ];
        for (name, value) in origin {
            let name = format!("{SPRING}{name}");
            if !headers.iter().any(|(known, _)| *known == name) {
                headers.push((name, Some(value)));
            }
        }
        let reason = cut(&self.reason, DEAD_LETTER_MESSAGE_BYTES_MAX);
        set_header(
            headers,
            &format!("{SPRING}exception-fqcn"),
            self.code.as_str(),
        );
        set_header(headers, &format!("{SPRING}exception-message"), reason);
        if let Some(backtrace) = &self.backtrace {
            let backtrace = cut(backtrace, DEAD_LETTER_BACKTRACE_BYTES_MAX);
            set_header(headers, &format!("{SPRING}exception-stacktrace"), backtrace);
        }
    }

    fn own_headers(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("id", self.id.to_string()),
            ("code", self.code.clone()),
            ("attempts", self.attempts.to_string()),
            ("first-failed-at", timestamp::to_rfc3339(self.failed_at)),
            ("replays", self.replays.to_string()),
        ];
        // What is no record of the log can't be found out from the record alone.
        if self.source != Source::Record {
            all.push(("source", self.source.name().to_owned()));
            all.extend(self.task_id.iter().map(|id| ("task", id.to_string())));
            all.extend(self.route.iter().map(|route| ("route", route.clone())));
        }
        if let Some(plugin) = &self.plugin {
            all.push(("plugin", plugin.name.clone()));
            all.push(("plugin-version", plugin.version.clone()));
            all.push(("plugin-digest", plugin.digest.clone()));
        }
        all
    }
}

/// A header's text, cut where there is room for hardly anything.
fn shortened(value: Vec<u8>) -> Vec<u8> {
    match std::str::from_utf8(&value) {
        Ok(text) => cut(text, SHORT_BYTES_MAX).as_bytes().to_vec(),
        Err(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TopicPartition;

    #[test]
    fn as_much_is_told_as_the_topic_takes_and_coordinates_of_an_earlier_failure_stay_short() {
        let header = |name: &str, bytes| (name.to_owned(), Some(vec![b'7'; bytes]));
        let letter = DeadLetter {
            id: Uuid::nil(),
            message: Arc::new(Message {
                position: TopicPartition::new("t", 3).at(258),
                timestamp: 1,
                key: Some(vec![b'k'; 3_000]),
                value: Some(vec![b'v'; 100_000]),
                headers: vec![
                    header("__connect.errors.topic", 5_000),
                    header("__connect.errors.offset", 4),
                ],
            }),
            code: "no-way".into(),
            reason: "because ".repeat(500),
            backtrace: Some("frame\n".repeat(2_000)),
            stage: Stage::Decide,
            attempts: 1,
            task_id: None,
            route: None,
            plugin: None,
            failed_at: 0,
            source: Source::Record,
            replays: 0,
            sequence: None,
            holds: false,
        };
        let told =
            |room: usize| letter.record_that_fits("t.dlq", "g", false, |it| it.size() <= room);
        let whole = told(200_000).expect("a record");
        assert_eq!(whole.value, letter.message.value);
        let of = |name: &str| {
            let name = format!("{CONNECT}{name}");
            let (_, value) = whole.headers.iter().find(|(known, _)| *known == name)?;
            value.clone()
        };
        assert_eq!(of("topic"), Some(b"t".to_vec()));
        assert_eq!(of("offset"), Some(b"7777".to_vec()));

        let keyed = told(9_000).expect("a record");
        assert_eq!((&keyed.key, &keyed.value), (&letter.message.key, &None));
        let least = told(1_500).expect("a record");
        assert!(least.key.is_none() && least.size() <= 1_500);
        assert!(
            least
                .headers
                .contains(&(format!("{OWN}truncated"), Some(b"true".to_vec())))
        );
        assert_eq!(told(100), None);
    }

    #[test]
    fn spring_headers_are_big_endian_numbers_and_keep_an_earlier_origin() {
        let letter = DeadLetter {
            id: Uuid::nil(),
            message: Arc::new(Message {
                position: TopicPartition::new("t", 3).at(258),
                timestamp: 1,
                key: None,
                value: None,
                headers: vec![("kafka_dlt-original-topic".into(), Some(b"first".to_vec()))],
            }),
            code: "no-way".into(),
            reason: "because".into(),
            backtrace: None,
            stage: Stage::Decide,
            attempts: 1,
            task_id: None,
            route: None,
            plugin: None,
            failed_at: 0,
            source: Source::Record,
            replays: 0,
            sequence: None,
            holds: false,
        };
        let record = letter.record("t.dlq", "g", true);
        let header = |name: &str| {
            let name = format!("kafka_dlt-{name}");
            let found = record.headers.iter().find(|(known, _)| *known == name);
            found.and_then(|(_, value)| value.clone())
        };
        assert_eq!(header("original-partition"), Some(vec![0, 0, 0, 3]));
        assert_eq!(
            header("original-offset"),
            Some(vec![0, 0, 0, 0, 0, 0, 1, 2])
        );
        assert_eq!(header("original-topic"), Some(b"first".to_vec()));
        assert_eq!(header("exception-message"), Some(b"because".to_vec()));
        assert!(
            letter
                .record("t.dlq", "g", false)
                .headers
                .iter()
                .all(|(name, _)| name != "kafka_dlt-original-offset")
        );
    }
}
