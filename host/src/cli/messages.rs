//! The messages of the replaced system, as its documentation defines them.
//!
//! Its "headers" can mean a part of the value or the record's own headers, so both are written.

use serde_json::{Map, Value, json};
use taskhost_core::record::Record;
use taskhost_core::timestamp;
use time::OffsetDateTime;
use uuid::Uuid;

/// The type of all its tasks.
const TASK_TYPE: &str = "web-crawl";

/// The key that its script sends with.
const SCRIPT_KEY: &str = "test-task-1";

/// The content of a web crawl request.
pub(super) struct Request<'a> {
    pub(super) email: &'a str,
    pub(super) query: &'a str,
    pub(super) url: &'a str,
}

impl Request<'_> {
    fn body(&self) -> Value {
        json!({
            "userEmail": self.email,
            "userQuery": self.query,
            "originalUrl": self.url,
            "requestedAt": now(),
        })
    }

    /// The documented request: an envelope, with its own id as the key.
    pub(super) fn envelope(&self, topic: &str, request_id: &str) -> Record {
        let ids = [("requestId", request_id), ("requestType", TASK_TYPE)];
        record(topic, request_id, ids, &self.body())
    }

    /// The message of the documented script: only the body, always with the same key.
    pub(super) fn bare(&self, topic: &str) -> Record {
        Record {
            topic: topic.to_owned(),
            key: Some(SCRIPT_KEY.into()),
            value: Some(self.body().to_string().into()),
            headers: Vec::new(),
            timestamp: None,
        }
    }
}

/// A step in a task's life, sent on the topic of status messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    New,
    Started,
    Completed,
    Error,
}

impl Step {
    /// The status in the message, and of the task afterwards.
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Error => "error",
        }
    }

    pub(super) fn message(self, topic: &str, task_id: &str) -> Record {
        let mut body = match self {
            Self::New => json!({
                "userEmail": "test@example.com",
                "userQuery": "Test query",
                "originalUrl": "https://example.com",
                "receivedAt": now(),
            }),
            Self::Started => json!({ "startedAt": now() }),
            Self::Completed => {
                json!({ "result": "Found 5 products matching criteria", "finishedAt": now() })
            }
            Self::Error => json!({ "error": "Network timeout occurred", "finishedAt": now() }),
        };
        body["taskId"] = task_id.into();
        body["status"] = self.status().into();
        record(
            topic,
            task_id,
            [("taskId", task_id), ("taskType", TASK_TYPE)],
            &body,
        )
    }
}

fn record(topic: &str, key: &str, ids: [(&str, &str); 2], body: &Value) -> Record {
    let (trace_id, span_id) = (Uuid::new_v4().simple().to_string(), span_id());
    let timestamp = now();
    let meta = [
        ("timestamp", &*timestamp),
        ("traceId", &*trace_id),
        ("spanId", &*span_id),
    ];
    let meta = ids.into_iter().chain(meta);
    let fields: Map<String, Value> = meta
        .clone()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let mut headers: Vec<_> = meta
        .map(|(name, value)| (name.to_owned(), Some(value.into())))
        .collect();
    headers.push((
        "traceparent".to_owned(),
        Some(format!("00-{trace_id}-{span_id}-01").into()),
    ));
    Record {
        topic: topic.to_owned(),
        key: Some(key.into()),
        value: Some(
            json!({ "headers": fields, "message": body })
                .to_string()
                .into(),
        ),
        headers,
        timestamp: None,
    }
}

/// 16 hexadecimal digits that are not all zero, as W3C Trace Context requires.
fn span_id() -> String {
    format!("{:016x}", rand::random::<u64>().max(1))
}

fn now() -> String {
    let millis = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    timestamp::to_rfc3339(i64::try_from(millis).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use taskhost_core::envelope;
    use taskhost_core::record::{Message, TopicPartition};

    use super::*;

    fn received(record: Record) -> Message {
        Message {
            position: TopicPartition::new(record.topic, 0).at(0),
            timestamp: 0,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }

    fn request() -> Request<'static> {
        Request {
            email: "test@example.com",
            query: "Test query",
            url: "https://example.com",
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_meant() {
        let message = received(request().envelope("requests-web-crawl", "r-1"));
        let text = |name: &str| {
            envelope::utf8_header(&message, name)
                .unwrap_or_else(|| panic!("{name}"))
                .to_owned()
        };
        let value: Value = serde_json::from_slice(message.value.as_deref().expect("a value"))
            .expect("a JSON value");
        for name in ["requestId", "requestType", "timestamp", "traceId", "spanId"] {
            assert_eq!(value["headers"][name], text(name), "{name}");
        }
        assert_eq!(message.key.as_deref(), Some(b"r-1".as_slice()));
        assert_eq!(value["message"]["userEmail"], "test@example.com");
        assert!(envelope::decode(&message).is_ok());
    }

    #[test]
    fn the_bare_form_is_the_scripts() {
        let message = received(request().bare("requests-web-crawl"));
        assert_eq!(message.key.as_deref(), Some(b"test-task-1".as_slice()));
        assert!(message.headers.is_empty());
        let value: Value = serde_json::from_slice(message.value.as_deref().expect("a value"))
            .expect("a JSON value");
        let names: Vec<&String> = value.as_object().expect("an object").keys().collect();
        assert_eq!(
            names,
            ["originalUrl", "requestedAt", "userEmail", "userQuery"]
        );
    }

    #[test]
    fn every_step_names_its_task_three_times() {
        for step in [Step::New, Step::Started, Step::Completed, Step::Error] {
            let message = received(step.message("task-status", "t-1"));
            let value: Value = serde_json::from_slice(message.value.as_deref().expect("a value"))
                .expect("a JSON value");
            assert_eq!(value["message"]["status"], step.status());
            assert_eq!(value["message"]["taskId"], "t-1");
            assert_eq!(value["headers"]["taskId"], "t-1");
            assert_eq!(message.key.as_deref(), Some(b"t-1".as_slice()));
        }
    }
}
