//! Bytes → envelope, or why not. What an envelope, a body and the meta fields are stands in
//! `docs/messages.md`. Never panics, whatever the bytes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json;
use crate::record::Message;
use crate::timestamp;
use crate::trace::TraceHint;

/// A message's decoded form.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The meta fields, wherever they were found.
    pub meta: Meta,
    /// What the record says of its trace.
    pub trace: TraceHint,
    /// The string fields of the envelope's `headers`, by name; empty without an envelope.
    pub headers: BTreeMap<String, String>,
    /// The body: a JSON object, as it came.
    pub body: String,
    /// The body, parsed.
    pub parsed: Value,
}

/// The fields that every message may carry. The first place that has one wins: the record's headers,
/// the envelope's headers, the body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// `taskId`.
    pub task_id: Option<String>,
    /// `taskType`.
    pub task_type: Option<String>,
    /// `requestId`.
    pub request_id: Option<String>,
    /// `requestType`.
    pub request_type: Option<String>,
    /// `timestamp`, in milliseconds since 1970.
    pub timestamp: Option<i64>,
}

/// Why a record can't be decoded, or decided on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Undecodable {
    /// Short, lower case, hyphenated: the dead letter's code.
    pub code: &'static str,
    /// A sentence for people, without payload.
    pub reason: String,
}

impl Undecodable {
    /// A reason with its code.
    pub fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

/// Decodes a record.
///
/// # Errors
/// Why it is no message that could be decided.
pub fn decode(message: &Message) -> Result<Envelope, Undecodable> {
    if !timestamp::is_valid(message.timestamp) {
        let reason = format!(
            "the record's timestamp {} is not between 1970 and 9999",
            message.timestamp
        );
        return Err(Undecodable::new("invalid-timestamp", reason));
    }
    let text = text(message)?;
    json::check(text).map_err(|problem| Undecodable::new(problem.code(), problem.to_string()))?;
    if !text.trim_start().starts_with('{') {
        return Err(Undecodable::new(
            "not-an-object",
            "the value is JSON, but not an object",
        ));
    }
    let top: Top<'_> = read(text)?;
    let (headers, body) = match (object(top.headers), object(top.message)) {
        (Some(headers), Some(body)) => (read::<BTreeMap<String, Value>>(headers)?, body),
        _ => (BTreeMap::new(), text),
    };
    let parsed: Value = read(body)?;
    let places = Places {
        message,
        headers: &headers,
        body: &parsed,
    };
    Ok(Envelope {
        meta: Meta {
            task_id: places.text("taskId", Strictness::Everywhere)?,
            task_type: places.text("taskType", Strictness::Everywhere)?,
            request_id: places.text("requestId", Strictness::Everywhere)?,
            request_type: places.text("requestType", Strictness::Everywhere)?,
            timestamp: places.time()?,
        },
        trace: TraceHint {
            traceparent: utf8_header(message, "traceparent").map(str::to_owned),
            tracestate: utf8_header(message, "tracestate").map(str::to_owned),
            trace_id: places.text("traceId", Strictness::Nowhere)?,
            span_id: places.text("spanId", Strictness::Nowhere)?,
        },
        headers: headers
            .into_iter()
            .filter_map(|(name, value)| match value {
                Value::String(text) => Some((name, text)),
                _ => None,
            })
            .collect(),
        body: body.to_owned(),
        parsed,
    })
}

/// The two members that make an envelope. `null` counts as absent.
#[derive(Deserialize)]
struct Top<'a> {
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

fn text(message: &Message) -> Result<&str, Undecodable> {
    match message.value.as_deref() {
        None => Err(Undecodable::new("tombstone", "the record has no value")),
        Some([]) => Err(Undecodable::new(
            "empty-value",
            "the record's value is empty",
        )),
        Some(bytes) => std::str::from_utf8(bytes).map_err(|error| {
            Undecodable::new(
                "not-utf8",
                format!(
                    "the value is not UTF-8 from byte {} on",
                    error.valid_up_to()
                ),
            )
        }),
    }
}

/// Reads text that [`json::check`] has passed.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Undecodable> {
    serde_json::from_str(text).map_err(|error| Undecodable::new("not-json", error.to_string()))
}

fn object(value: Option<&RawValue>) -> Option<&str> {
    value
        .map(RawValue::get)
        .filter(|text| text.starts_with('{'))
}

/// A record header as text, if it is text.
pub fn utf8_header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message
        .header(name)
        .and_then(|value| std::str::from_utf8(value).ok())
}

/// Where a field of the wrong type is an error. In a bare body, `timestamp` or `traceId` can be a field
/// of the author's own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Everywhere,
    InHeaders,
    /// A trace is worth no message: what is no text counts as absent.
    Nowhere,
}

/// The places where a meta field can be, in order.
struct Places<'a> {
    message: &'a Message,
    headers: &'a BTreeMap<String, Value>,
    body: &'a Value,
}

impl Places<'_> {
    fn text(
        &self,
        name: &'static str,
        strictness: Strictness,
    ) -> Result<Option<String>, Undecodable> {
        let wrong = |place: &str| {
            Undecodable::new(
                "invalid-meta-field",
                format!("the field `{name}` in {place} is not a text"),
            )
        };
        if let Some(bytes) = self.message.header(name) {
            match std::str::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') => return Ok(Some(text.to_owned())),
                _ if strictness == Strictness::Nowhere => {}
                _ => return Err(wrong("the record's headers")),
            }
        }
        match self.headers.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => return Ok(Some(text.clone())),
            Some(_) if strictness == Strictness::Nowhere => {}
            Some(_) => return Err(wrong("the envelope's headers")),
        }
        match self.body.get(name) {
            Some(Value::String(text)) => Ok(Some(text.clone())),
            None | Some(Value::Null) => Ok(None),
            Some(_) if strictness != Strictness::Everywhere => Ok(None),
            Some(_) => Err(wrong("the body")),
        }
    }

    fn time(&self) -> Result<Option<i64>, Undecodable> {
        let Some(text) = self.text("timestamp", Strictness::InHeaders)? else {
            return Ok(None);
        };
        match timestamp::from_rfc3339(&text) {
            Some(millis) => Ok(Some(millis)),
            None if self.message.header("timestamp").is_none()
                && !self.headers.contains_key("timestamp") =>
            {
                Ok(None)
            }
            None => Err(Undecodable::new(
                "invalid-timestamp",
                "the field `timestamp` is not an RFC 3339 time",
            )),
        }
    }
}
