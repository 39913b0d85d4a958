//! Dead letters that another system wrote: what their headers say, in each dialect that is in use.
//!
//! Kafka Connect and share groups (KIP-1191) write text, Kafka Streams (KIP-1034) too, Spring Kafka its numbers as
//! big-endian bytes. What a dialect's headers say of the failure is taken off; the message's own headers stay.

use std::sync::Arc;

use uuid::Uuid;

use crate::dead_letter::{DeadLetter, Source, Stage};
use crate::decision::clean;
use crate::limits::{CODE_BYTES_MAX, cut};
use crate::record::{Message, Position, TopicPartition};
use crate::task::{PluginVersion, TaskId, derived_id};
use crate::timestamp;

/// Who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// taskhost itself.
    Taskhost,
    /// Kafka Connect.
    Connect,
    /// Spring Kafka.
    Spring,
    /// Kafka Streams.
    Streams,
    /// A share group of the broker's.
    ShareGroup,
    /// Nobody that is known: a record as it is.
    Unknown,
}

impl Dialect {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Taskhost => "taskhost",
            Self::Connect => "connect",
            Self::Spring => "spring",
            Self::Streams => "streams",
            Self::ShareGroup => "share-group",
            Self::Unknown => "unknown",
        }
    }
}

const TASKHOST: &str = "taskhost-dlq-";
const CONNECT: &str = "__connect.errors.";
const SPRING: &str = "kafka_dlt-";
const STREAMS: &str = "__streams.errors.";
const SHARE_GROUP: &str = "__dlq.errors.";

/// A dead letter as it was read from another system's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Who wrote it.
    pub dialect: Dialect,
    /// The dead letter. Its record is where the headers say that it was; if they don't, where it was read.
    pub letter: DeadLetter,
    /// Whether its headers say where it was.
    pub has_origin: bool,
}

/// Headers of a record by name.
struct Headers<'a>(&'a Message);

impl Headers<'_> {
    fn text(&self, prefix: &str, name: &str) -> Option<String> {
        let value = self.0.header(&format!("{prefix}{name}"))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn number<N: std::str::FromStr>(&self, prefix: &str, name: &str) -> Option<N> {
        self.text(prefix, name)?.trim().parse().ok()
    }

    fn bytes<const N: usize>(&self, name: &str) -> Option<[u8; N]> {
        self.0.header(&format!("{SPRING}{name}"))?.try_into().ok()
    }

    fn dialect(&self) -> Dialect {
        let has = |prefix: &str| {
            let mut names = self.0.headers.iter().map(|(name, _)| name);
            names.any(|name| name.starts_with(prefix))
        };
        [
            (TASKHOST, Dialect::Taskhost),
            (SPRING, Dialect::Spring),
            (STREAMS, Dialect::Streams),
            (SHARE_GROUP, Dialect::ShareGroup),
            (CONNECT, Dialect::Connect),
        ]
        .into_iter()
        .find(|(prefix, _)| has(prefix))
        .map_or(Dialect::Unknown, |(_, dialect)| dialect)
    }

    /// Where the record was before it failed.
    fn origin(&self, dialect: Dialect) -> Option<Position> {
        let (topic, partition, offset) = match dialect {
            Dialect::Unknown => return None,
            Dialect::Spring => (
                self.text(SPRING, "original-topic")?,
                i32::from_be_bytes(self.bytes("original-partition")?),
                i64::from_be_bytes(self.bytes("original-offset")?),
            ),
            other => {
                let prefix = other.prefix();
                (
                    self.text(prefix, "topic")?,
                    self.number(prefix, "partition")?,
                    self.number(prefix, "offset")?,
                )
            }
        };
        Some(TopicPartition::new(topic, partition).at(offset))
    }

    /// What failed, in a word, and for people, and where in the code.
    fn failure(&self, dialect: Dialect) -> (Option<String>, Option<String>, Option<String>) {
        let prefix = dialect.prefix();
        let text = |name| self.text(prefix, name);
        match dialect {
            Dialect::Taskhost => (
                self.text(TASKHOST, "code"),
                text("exception.message"),
                text("exception.stacktrace"),
            ),
            Dialect::Connect => (
                text("exception.class.name"),
                text("exception.message"),
                text("exception.stacktrace"),
            ),
            // The cause is what the listener threw; the outer one is the container's.
            Dialect::Spring => (
                text("exception-cause-fqcn").or_else(|| text("exception-fqcn")),
                text("exception-message"),
                text("exception-stacktrace"),
            ),
            Dialect::Streams => (text("exception"), text("message"), text("stacktrace")),
            Dialect::ShareGroup => (None, text("message"), None),
            Dialect::Unknown => (None, None, None),
        }
    }

    fn timestamp(&self, dialect: Dialect) -> Option<i64> {
        match dialect {
            Dialect::Spring => self.bytes("original-timestamp").map(i64::from_be_bytes),
            _ => None,
        }
    }
}

impl Dialect {
    /// What the names of its headers about place and failure begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Taskhost | Self::Connect | Self::Unknown => CONNECT,
            Self::Spring => SPRING,
            Self::Streams => STREAMS,
            Self::ShareGroup => SHARE_GROUP,
        }
    }
}

/// Reads a record of a dead letter topic. `topic_id` is Kafka's id of that topic: the dead letter's id grows from it, so
/// that reading the record twice makes the same one. taskhost's own keep the id that they had.
pub fn read(record: &Message, topic_id: Uuid) -> Foreign {
    let headers = Headers(record);
    let dialect = headers.dialect();
    let origin = headers.origin(dialect);
    let (code, reason, backtrace) = headers.failure(dialect);
    let own = |name: &str| headers.text(TASKHOST, name);
    let id = own("id").and_then(|text| Uuid::parse_str(&text).ok());
    let first = own("first-failed-at").and_then(|text| timestamp::from_rfc3339(&text));
    let source = match own("source").as_deref().and_then(Source::from_name) {
        Some(source) => source,
        None => Source::Record,
    };
    let kept = record.headers.iter().filter(|(name, _)| {
        let theirs = [TASKHOST, CONNECT, SPRING, STREAMS, SHARE_GROUP];
        !theirs.iter().any(|prefix| name.starts_with(prefix))
    });
    let letter = DeadLetter {
        id: id.unwrap_or_else(|| derived_id(record.position.seed(topic_id), "dead-letter")),
        code: code.as_deref().map_or("imported".to_owned(), code_of),
        reason: clean(&reason.unwrap_or_else(|| "another system gave it up".to_owned())),
        backtrace: backtrace.map(|text| text.replace('\0', "\u{fffd}")),
        stage: match headers.text(CONNECT, "stage").as_deref() {
            Some("VALUE_CONVERTER" | "KEY_CONVERTER" | "HEADER_CONVERTER") => Stage::Decode,
            Some("KAFKA_PRODUCE") if source == Source::Outgoing => Stage::Publish,
            _ => Stage::Decide,
        },
        attempts: own("attempts")
            .and_then(|text| text.parse().ok())
            .unwrap_or(1),
        task_id: own("task").and_then(|text| TaskId::new(text).ok()),
        route: own("route"),
        plugin: plugin(&own).map(Arc::new),
        failed_at: first.unwrap_or(record.timestamp.max(0)),
        source,
        replays: own("replays")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        // It belongs to no place of the partition that takes it.
        sequence: None,
        holds: false,
        message: Arc::new(Message {
            position: origin.clone().unwrap_or_else(|| record.position.clone()),
            timestamp: headers.timestamp(dialect).unwrap_or(record.timestamp),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: kept.cloned().collect(),
        }),
    };
    Foreign {
        dialect,
        letter,
        has_origin: origin.is_some(),
    }
}

fn plugin(own: &impl Fn(&str) -> Option<String>) -> Option<PluginVersion> {
    Some(PluginVersion {
        name: clean(&own("plugin")?),
        version: clean(&own("plugin-version")?),
        digest: clean(&own("plugin-digest")?),
    })
}

/// A code as ours are: the class's own name, lower case and hyphenated.
fn code_of(name: &str) -> String {
    let class = name.rsplit(['.', '$', '/']).next().unwrap_or(name);
    let mut code = String::new();
    let mut before = '-';
    for letter in class.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            code.push('-');
        }
        match letter.is_ascii_alphanumeric() {
            true => code.push(letter.to_ascii_lowercase()),
            false if !code.ends_with('-') && !code.is_empty() => code.push('-'),
            false => {}
        }
        before = letter;
    }
    let code = cut(code.trim_end_matches('-'), CODE_BYTES_MAX);
    match code.is_empty() {
        true => "imported".to_owned(),
        false => code.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[(&str, &[u8])]) -> Message {
        Message {
            position: TopicPartition::new("t.dlq", 1).at(4),
            timestamp: 1_700_000_000_000,
            key: Some(b"k".to_vec()),
            value: Some(b"{}".to_vec()),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Some(value.to_vec())))
                .collect(),
        }
    }

    type Case = (Dialect, Vec<(&'static str, &'static [u8])>, &'static str);

    /// The headers of Kafka's own dialects, and the code that they become.
    fn of_kafka() -> [Case; 3] {
        [
            (
                Dialect::Connect,
                vec![
                    ("__connect.errors.topic", b"t"),
                    ("__connect.errors.partition", b"3"),
                    ("__connect.errors.offset", b"258"),
                    (
                        "__connect.errors.exception.class.name",
                        b"org.apache.kafka.connect.errors.DataException",
                    ),
                    ("__connect.errors.exception.message", b"why"),
                    ("__connect.errors.stage", b"VALUE_CONVERTER"),
                ],
                "data-exception",
            ),
            (
                Dialect::Streams,
                vec![
                    ("__streams.errors.topic", b"t"),
                    ("__streams.errors.partition", b"3"),
                    ("__streams.errors.offset", b"258"),
                    ("__streams.errors.exception", b"java.lang.RuntimeException"),
                    ("__streams.errors.message", b"why"),
                ],
                "runtime-exception",
            ),
            (
                Dialect::ShareGroup,
                vec![
                    ("__dlq.errors.topic", b"t"),
                    ("__dlq.errors.partition", b"3"),
                    ("__dlq.errors.offset", b"258"),
                    ("__dlq.errors.group", b"g"),
                    ("__dlq.errors.delivery.count", b"5"),
                    ("__dlq.errors.message", b"why"),
                ],
                "imported",
            ),
        ]
    }

    /// The same of Spring Kafka and of ours.
    fn of_others() -> [Case; 2] {
        [
            (
                Dialect::Spring,
                vec![
                    ("kafka_dlt-original-topic", b"t"),
                    ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
                    ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 1, 2]),
                    (
                        "kafka_dlt-original-timestamp",
                        &[0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0],
                    ),
                    (
                        "kafka_dlt-exception-fqcn",
                        b"org.springframework.kafka.listener.ListenerExecutionFailedException",
                    ),
                    (
                        "kafka_dlt-exception-cause-fqcn",
                        b"java.lang.IllegalStateException",
                    ),
                    ("kafka_dlt-exception-message", b"why"),
                ],
                "illegal-state-exception",
            ),
            (
                Dialect::Taskhost,
                vec![
                    ("__connect.errors.topic", b"t"),
                    ("__connect.errors.partition", b"3"),
                    ("__connect.errors.offset", b"258"),
                    ("__connect.errors.exception.message", b"why"),
                    ("taskhost-dlq-code", b"unknown-status"),
                    ("taskhost-dlq-replays", b"2"),
                    ("taskhost-dlq-id", b"5e5a1f4e-6f0a-5ad5-8c0e-3a1c2b4d5e6f"),
                ],
                "unknown-status",
            ),
        ]
    }

    #[test]
    fn each_dialect_says_where_the_record_was_and_why_it_failed() {
        for (dialect, mut headers, code) in of_kafka().into_iter().chain(of_others()) {
            headers.insert(0, ("own", b"kept"));
            let found = read(&record(&headers), Uuid::nil());
            assert_eq!(found.dialect, dialect);
            let letter = &found.letter;
            assert_eq!(
                letter.message.position,
                TopicPartition::new("t", 3).at(258),
                "{dialect:?}"
            );
            assert_eq!(
                (letter.code.as_str(), letter.reason.as_str()),
                (code, "why"),
                "{dialect:?}"
            );
            assert_eq!(
                letter.message.headers,
                [("own".to_owned(), Some(b"kept".to_vec()))]
            );
            assert!(found.has_origin);
        }
    }

    #[test]
    fn a_record_without_headers_is_where_it_was_read_and_has_the_same_id_each_time() {
        let id = Uuid::from_u128(7);
        let (once, twice) = (read(&record(&[]), id), read(&record(&[]), id));
        assert_eq!(once, twice);
        assert!(!once.has_origin);
        assert_eq!(once.dialect, Dialect::Unknown);
        assert_eq!(once.letter.code, "imported");
        assert_eq!(once.letter.message.position.offset, 4);
        assert_ne!(
            once.letter.id,
            read(&record(&[]), Uuid::from_u128(8)).letter.id
        );
    }

    #[test]
    fn headers_of_the_wrong_form_are_no_origin() {
        let found = read(
            &record(&[
                ("kafka_dlt-original-topic", b"t"),
                ("kafka_dlt-original-partition", b"3"),
                ("kafka_dlt-original-offset", &[0, 0]),
            ]),
            Uuid::nil(),
        );
        assert_eq!((found.dialect, found.has_origin), (Dialect::Spring, false));
    }
}
