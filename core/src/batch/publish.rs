//! What the host sends: task events and plugins' messages in the document's envelope, with the meta
//! fields as record headers too, so that both readings of "headers" find them.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::cause::Cause;
use crate::decision::Outgoing;
use crate::record::{Header, Record, set_header};
use crate::task::{Task, TaskEvent};
use crate::timestamp;
use crate::trace::Trace;

/// The envelope's headers, in the document's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Headers<'a> {
    task_id: &'a str,
    task_type: &'a str,
    timestamp: &'a str,
    trace_id: &'a str,
    span_id: &'a str,
}

/// The document's envelope.
#[derive(Serialize)]
struct Envelope<'a, B> {
    headers: Headers<'a>,
    message: B,
}

/// The body of a task event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventBody<'a> {
    event_id: &'a str,
    task_id: &'a str,
    task_type: &'a str,
    version: i64,
    kind: &'a str,
    from: Option<&'a str>,
    to: &'a str,
    at: &'a str,
    data: &'a RawValue,
}

/// The record of a task event.
pub(super) fn task_event(event: &TaskEvent, task: &Task, trace: &Trace, topic: &str) -> Record {
    let (id, at) = (event.id(), timestamp::to_rfc3339(event.at));
    let body = EventBody {
        event_id: &id,
        task_id: task.id.as_str(),
        task_type: &task.kind,
        version: event.version,
        kind: &event.kind,
        from: event.from.as_deref(),
        to: &event.to,
        at: &at,
        data: raw(&event.data),
    };
    let mut record = enveloped(&body, task, trace, &at, topic, None);
    set_header(&mut record.headers, "eventId", id);
    record
}

/// The record of a plugin's message. Its own headers never replace the meta fields.
pub(super) fn outgoing(message: &Outgoing, topic: &str, cause: &Cause, task: &Task) -> Record {
    let at = timestamp::to_rfc3339(cause.at);
    let mut record = enveloped(
        raw(&message.body),
        task,
        &cause.trace,
        &at,
        topic,
        message.key.as_deref(),
    );
    let reserved: Vec<String> = record
        .headers
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    for (name, value) in message
        .headers
        .iter()
        .filter(|(name, _)| !reserved.contains(name))
    {
        set_header(&mut record.headers, name, value.as_str());
    }
    record
}

fn enveloped(
    body: impl Serialize,
    task: &Task,
    trace: &Trace,
    at: &str,
    topic: &str,
    key: Option<&str>,
) -> Record {
    let headers = Headers {
        task_id: task.id.as_str(),
        task_type: &task.kind,
        timestamp: at,
        trace_id: &trace.trace_id,
        span_id: &trace.span_id,
    };
    let mut fields: Vec<Header> = [
        ("taskId", headers.task_id),
        ("taskType", headers.task_type),
        ("timestamp", headers.timestamp),
        ("traceId", headers.trace_id),
        ("spanId", headers.span_id),
        ("traceparent", &trace.traceparent()),
    ]
    .into_iter()
    .chain(
        trace
            .tracestate
            .as_deref()
            .map(|state| ("tracestate", state)),
    )
    .map(|(name, value)| (name.to_owned(), Some(value.as_bytes().to_vec())))
    .collect();
    fields.reserve(2);
    let envelope = Envelope {
        headers,
        message: body,
    };
    Record {
        topic: topic.to_owned(),
        key: Some(key.unwrap_or(task.id.as_str()).as_bytes().to_vec()),
        // Texts and numbers have no way to fail.
        value: Some(serde_json::to_vec(&envelope).unwrap_or_default()),
        headers: fields,
        timestamp: None,
    }
}

/// Text that was checked to be JSON, passed on as it is.
fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap_or(RawValue::NULL)
}
