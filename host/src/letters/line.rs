//! A line of an export → the dead letter that it holds.

use std::sync::Arc;

use serde_json::Value;
use taskhost_core::dead_letter::{DeadLetter, Source, Stage};
use taskhost_core::record::{Header, Message, TopicPartition};
use taskhost_core::task::{PluginVersion, TaskId};
use taskhost_core::timestamp::from_rfc3339;
use uuid::Uuid;

/// A dead letter as it was read from a line of an export.
#[derive(Debug)]
pub struct Line {
    /// The dead letter.
    pub letter: DeadLetter,
    /// The partition that gave it up.
    pub owner: TopicPartition,
    /// The edited payload, if there is one.
    pub edited: Option<Option<Vec<u8>>>,
}

/// Makes a dead letter from a line of an export.
///
/// # Errors
/// What is wrong with the line.
pub fn from_line(line: &str) -> Result<Line, String> {
    let all: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let all = Fields(&all);
    let position = TopicPartition::new(all.needed("topic")?, all.small("partition")?);
    let headers = all.headers()?;
    let owner = match &all.0["owner"] {
        Value::Null => position.clone(),
        owner => TopicPartition::new(
            owner["topic"].as_str().ok_or("`owner.topic` is missing")?,
            Fields(owner).small("partition")?,
        ),
    };
    let letter = DeadLetter {
        id: Uuid::parse_str(&all.needed("id")?).map_err(|error| error.to_string())?,
        message: Arc::new(Message {
            position: position.at(all.number("offset")?),
            timestamp: all.number("timestamp")?,
            key: all.bytes("key")?,
            value: all.bytes("value")?,
            headers,
        }),
        code: all.needed("code")?,
        reason: all.needed("reason")?,
        backtrace: all.text("backtrace"),
        stage: all.stage().unwrap_or(Stage::Decide),
        attempts: all.small("attempts").unwrap_or(1),
        task_id: all
            .text("task")
            .map(TaskId::new)
            .transpose()
            .map_err(|error| error.to_string())?,
        route: all.text("route"),
        plugin: all.plugin(),
        failed_at: all
            .text("failedAt")
            .and_then(|text| from_rfc3339(&text))
            .unwrap_or(0),
        source: all
            .text("source")
            .and_then(|name| Source::from_name(&name))
            .unwrap_or(Source::Record),
        replays: all.small("replays").unwrap_or(0),
        sequence: None,
        holds: false,
    };
    let edited = match all.small("edits").unwrap_or(0) {
        0 => None,
        _ => Some(all.bytes("editedValue")?),
    };
    Ok(Line {
        letter,
        owner,
        edited,
    })
}

/// Bytes from their form in JSON.
///
/// # Errors
/// Why the form is wrong.
pub fn from_bytes(value: &Value) -> Result<Option<Vec<u8>>, String> {
    match (value, &value["text"], &value["hex"]) {
        (Value::Null, ..) => Ok(None),
        (_, Value::String(text), _) => Ok(Some(text.clone().into_bytes())),
        (_, _, Value::String(digits)) => hex::decode(digits)
            .map(Some)
            .map_err(|error| format!("{error} in the hex digits")),
        _ => Err("neither null nor {\"text\"} nor {\"hex\"}".to_owned()),
    }
}

/// The fields of a JSON object.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn text(self, name: &str) -> Option<String> {
        self.0[name].as_str().map(str::to_owned)
    }

    fn needed(self, name: &str) -> Result<String, String> {
        self.text(name)
            .ok_or_else(|| format!("`{name}` is missing"))
    }

    fn number(self, name: &str) -> Result<i64, String> {
        self.0[name]
            .as_i64()
            .ok_or_else(|| format!("`{name}` is not a number"))
    }

    fn small(self, name: &str) -> Result<i32, String> {
        i32::try_from(self.number(name)?).map_err(|_| format!("`{name}` is too large"))
    }

    fn bytes(self, name: &str) -> Result<Option<Vec<u8>>, String> {
        from_bytes(&self.0[name]).map_err(|why| format!("`{name}`: {why}"))
    }

    fn headers(self) -> Result<Vec<Header>, String> {
        let mut headers = Vec::new();
        for header in self.0["headers"].as_array().into_iter().flatten() {
            let name = header["name"].as_str().ok_or("a header has no name")?;
            let value = match header.as_object().is_some_and(|all| all.len() == 1) {
                true => None,
                false => from_bytes(header).map_err(|why| format!("header `{name}`: {why}"))?,
            };
            headers.push((name.to_owned(), value));
        }
        Ok(headers)
    }

    fn stage(self) -> Option<Stage> {
        let name = self.text("stage")?;
        let mut stages = [Stage::Decode, Stage::Decide, Stage::Publish].into_iter();
        stages.find(|stage| stage.name() == name)
    }

    fn plugin(self) -> Option<Arc<PluginVersion>> {
        Some(Arc::new(PluginVersion {
            name: self.text("plugin")?,
            version: self.text("pluginVersion")?,
            digest: self.text("pluginDigest")?,
        }))
    }
}
