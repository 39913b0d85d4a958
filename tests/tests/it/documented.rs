//! The documented messages, and the three forms in which they may come.

use serde_json::{Value, json};
use taskhost_tests::Message;

/// The documented trace id, which is none.
pub(crate) const TRACE: &str = "trace-id-string";
/// The documented span id, which is none.
pub(crate) const SPAN: &str = "span-id-string";

/// How a message carries its meta fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the value's `headers`, with the body in `message`.
    Envelope,
    /// As the record's headers; the value is the body.
    RecordHeaders,
    /// Not at all.
    Bare,
}

impl Form {
    pub(crate) const ALL: [Self; 3] = [Self::Envelope, Self::RecordHeaders, Self::Bare];

    pub(crate) fn message(self, topic: &str, headers: &Value, body: &Value) -> Message {
        let message = Message::to(topic);
        match self {
            Self::Envelope => message.json(&json!({ "headers": headers, "message": body })),
            Self::RecordHeaders => {
                let fields = headers.as_object().expect("the meta fields");
                fields
                    .iter()
                    .fold(message.json(body), |message, (name, value)| {
                        message.header(name, value.as_str().expect("a text"))
                    })
            }
            Self::Bare => message.json(body),
        }
    }
}

pub(crate) fn task_headers(id: &str) -> Value {
    json!({
        "taskId": id, "taskType": "web-crawl", "timestamp": "2024-01-01T00:00:00.000Z", "traceId": TRACE, "spanId": SPAN
    })
}

pub(crate) fn new_task(id: &str) -> Value {
    json!({
        "taskId": id, "userEmail": "user@example.com", "userQuery": "Find product information",
        "originalUrl": "https://example.com", "receivedAt": "2024-01-01T00:00:00.000Z", "status": "new"
    })
}

pub(crate) fn completion(id: &str) -> Value {
    json!({
        "taskId": id, "status": "completed", "result": "Found 5 products matching criteria",
        "finishedAt": "2024-01-01T00:00:00.000Z"
    })
}

pub(crate) fn failure(id: &str) -> Value {
    json!({
        "taskId": id, "status": "error", "error": "Network timeout occurred",
        "finishedAt": "2024-01-01T00:00:00.000Z"
    })
}

pub(crate) fn request() -> Value {
    json!({
        "userEmail": "user@example.com", "userQuery": "Find product information",
        "originalUrl": "https://example.com", "requestedAt": "2024-01-01T00:00:00.000Z"
    })
}

/// An update in its shortest form, keyed by its task.
pub(crate) fn update(id: &str, status: &str) -> Message {
    Message::to("task-status")
        .key(id)
        .json(&json!({ "taskId": id, "status": status }))
}
