//! Dead letters in the forms for people and programs: JSON, and a hexdump of bytes that are not text.
//!
//! A line of an export contains the whole dead letter, and [`from_line`] restores it.

mod line;

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use taskhost_core::cause::{self, Route};
use taskhost_core::envelope::{self, Undecodable};
use taskhost_core::record::{Header, Message};
use taskhost_core::task::TaskId;
use taskhost_core::timestamp::{from_rfc3339, to_rfc3339};
use uuid::Uuid;

use crate::store::{Edit, Filter, Place, State, StoredDeadLetter};

pub use line::{Line, from_bytes, from_line};

/// A dead letter's entry in a list.
#[must_use]
pub fn summary(stored: &StoredDeadLetter) -> Value {
    let letter = &stored.letter;
    let position = &letter.message.position;
    let plugin = letter.plugin.as_ref();
    json!({
        "id": letter.id,
        "topic": &*position.topic,
        "partition": position.partition,
        "offset": position.offset,
        "code": letter.code,
        "task": letter.task_id.as_ref().map(TaskId::as_str),
        "state": stored.state.name(),
        "reason": letter.reason,
        "stage": letter.stage.name(),
        "source": letter.source.name(),
        "route": letter.route,
        "plugin": plugin.map(|plugin| &plugin.name),
        "pluginVersion": plugin.map(|plugin| &plugin.version),
        "attempts": letter.attempts,
        "replays": letter.replays,
        "holds": letter.holds,
        "edits": stored.edits,
        "failedAt": to_rfc3339(letter.failed_at),
        "createdAt": to_rfc3339(stored.created_at),
        "stateAt": to_rfc3339(stored.state_at),
    })
}

/// The whole dead letter, for an export and for `show`.
#[must_use]
pub fn whole(stored: &StoredDeadLetter, edits: &[Edit]) -> Value {
    let letter = &stored.letter;
    let message = &letter.message;
    let mut all = fields(summary(stored));
    let edits: Vec<Value> = edits
        .iter()
        .map(|edit| {
            json!({
                "number": edit.number,
                "value": bytes(edit.value.as_deref()),
                "by": edit.by,
                "reason": edit.reason,
                "at": to_rfc3339(edit.at),
            })
        })
        .collect();
    for (name, value) in fields(json!({
        "owner": {
            "topic": &*stored.owner.partition.topic,
            "partition": stored.owner.partition.partition,
        },
        "key": bytes(message.key.as_deref()),
        "value": bytes(message.value.as_deref()),
        "editedValue": (stored.edits > 0).then(|| bytes(stored.edited_value.as_deref())),
        "headers": message.headers.iter().map(header).collect::<Vec<_>>(),
        "timestamp": message.timestamp,
        "backtrace": letter.backtrace,
        "pluginDigest": letter.plugin.as_ref().map(|plugin| &plugin.digest),
        "decidedBy": stored.decided_by,
        "note": stored.note,
        "imported": stored.imported,
        "editHistory": edits,
    })) {
        all.insert(name, value);
    }
    all.into()
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Bytes as JSON: `{"text"}`, or `{"hex"}` if they are not UTF-8, or null.
fn bytes(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => json!({ "text": text }),
        Some((bytes, Err(_))) => json!({ "hex": hex::encode(bytes) }),
    }
}

fn header((name, value): &Header) -> Value {
    let mut all = fields(bytes(value.as_deref()));
    all.insert("name".to_owned(), name.as_str().into());
    all.into()
}

/// Checks whether a message can be decided, as far as that is known without its plugin.
///
/// # Errors
/// What is wrong with it.
pub fn check(message: &Message, topic: &str, routes: &[Route]) -> Result<(), Undecodable> {
    let envelope = envelope::decode(message)?;
    cause::route_of(routes, topic, &envelope).map(|_| ())
}

/// A payload for people: JSON over several lines, other text unchanged, a hexdump of anything else.
#[must_use]
pub fn readable(value: Option<&[u8]>) -> String {
    let Some(bytes) = value else {
        return "no payload (a tombstone)".to_owned();
    };
    match std::str::from_utf8(bytes) {
        Err(_) => hexdump(bytes),
        Ok("") => "an empty payload".to_owned(),
        Ok(text) => serde_json::from_str::<Value>(text)
            .and_then(|value| serde_json::to_string_pretty(&value))
            .unwrap_or_else(|_| text.to_owned()),
    }
}

/// Bytes that a hexdump shows. Nobody reads more.
const DUMPED_MAX: usize = 4096;

fn hexdump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (number, row) in bytes[..bytes.len().min(DUMPED_MAX)].chunks(16).enumerate() {
        let digits: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown: String = row
            .iter()
            .map(|byte| match byte.is_ascii_graphic() || *byte == b' ' {
                true => char::from(*byte),
                false => '.',
            })
            .collect();
        // Writing to a `String` can't fail.
        let _ = writeln!(
            text,
            "{:08x}  {:<47}  |{shown}|",
            number * 16,
            digits.join(" ")
        );
    }
    if bytes.len() > DUMPED_MAX {
        let _ = writeln!(text, "… {} bytes in all", bytes.len());
    }
    text.trim_end().to_owned()
}

/// A filter from the parts of a command line or an HTTP request.
///
/// # Errors
/// Which part is wrong, and how.
pub fn filter<'a>(parts: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for (name, value) in parts {
        let text = Some(value.to_owned());
        match name {
            "topic" => filter.topic = text,
            "plugin" => filter.plugin = text,
            "code" => filter.code = text,
            "text" => filter.text = text,
            "task" => filter.task = text,
            "since" => filter.since = Some(time(value)?),
            "until" => filter.until = Some(time(value)?),
            "state" => {
                for one in value.split(',') {
                    filter.states.push(State::from_name(one).ok_or_else(|| {
                        let all: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
                        format!("{one:?} is not a state; the states are {}", all.join(", "))
                    })?);
                }
            }
            other => return Err(format!("there is no filter {other:?}")),
        }
    }
    Ok(filter)
}

/// A time: RFC 3339, or an age such as `90s`, `15m`, `2h`, `7d`.
fn time(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!(
            "{text:?} is not a time: write 2026-01-31T08:00:00Z, or an age such as 15m, 2h or 7d"
        )
    };
    if let Some(millis) = from_rfc3339(text) {
        return Ok(millis);
    }
    let unit = match text.chars().last() {
        Some('s') => 1000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0);
    Ok(now.saturating_sub(count.saturating_mul(unit)).max(0))
}

/// A place in a list, as text for the next page's URL.
#[must_use]
pub fn place_text(place: &Place) -> String {
    format!("{}_{}_{}", place.created_micros, place.offset, place.id)
}

/// The place of [`place_text`].
#[must_use]
pub fn place_of(text: &str) -> Option<Place> {
    let mut parts = text.splitn(3, '_');
    Some(Place {
        created_micros: parts.next()?.parse().ok()?,
        offset: parts.next()?.parse().ok()?,
        id: Uuid::parse_str(parts.next()?).ok()?,
    })
}

#[cfg(test)]
mod tests;
