//! Dead letters' rows, and the last of them.

use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::dead_letter::{DeadLetter, Source, Stage};
use taskhost_core::record::{Header, Message, TopicPartition};
use taskhost_core::task::PluginVersion;

use super::Key;
use super::error::Error;
use super::millis::Millis;
use super::pool::Store;
use super::row::task_id;

/// A dead letter's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Whose batch gave up on it.
    pub owner: Key,
    /// The dead letter.
    pub letter: DeadLetter,
    /// When it was stored, in milliseconds since 1970, by the database's clock.
    pub created_at: i64,
    /// What became of it.
    pub state: State,
    /// Since when, in milliseconds since 1970, by the database's clock.
    pub state_at: i64,
    /// Whether it is to be sent to its topic again, instead of being decided.
    pub republish: bool,
    /// How often its payload was edited.
    pub edits: i32,
    /// The payload as it was edited last; none also if that took it away.
    pub edited_value: Option<Vec<u8>>,
    /// Who replayed, sent again or discarded it last.
    pub decided_by: Option<String>,
    /// Why it was discarded.
    pub note: Option<String>,
    /// Where it was imported from, if it was.
    pub imported: Option<String>,
}

impl StoredDeadLetter {
    /// The message as it is decided: with the payload as it was edited last.
    pub fn message(&self) -> Arc<Message> {
        match self.edits {
            0 => self.letter.message.clone(),
            _ => Arc::new(Message {
                value: self.edited_value.clone(),
                ..Message::clone(&self.letter.message)
            }),
        }
    }
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nobody has seen to it.
    Open,
    /// A wakeup stands for it.
    Replaying,
    /// Its replay waits for its task.
    Waiting,
    /// It was replayed too often.
    Parked,
    /// Its replay was applied.
    Applied,
    /// Its replay was ignored.
    Ignored,
    /// A person gave it up.
    Discarded,
    /// A person sent it to its topic again.
    Republished,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Open,
        Self::Replaying,
        Self::Waiting,
        Self::Parked,
        Self::Applied,
        Self::Ignored,
        Self::Discarded,
        Self::Republished,
    ];

    /// As stored, and as people name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replaying => "replaying",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Discarded => "discarded",
            Self::Republished => "republished",
        }
    }

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What [`stored`] reads.
macro_rules! columns {
    () => {
        "d.group_id, d.id, d.topic, d.partition, d.record_topic, d.record_partition, d.record_offset, \
         d.record_timestamp, d.key, d.value, d.headers::text AS headers, d.code, d.reason, d.backtrace, d.stage, \
         d.attempts, d.task_id, d.route, d.plugin_name, d.plugin_version, d.plugin_digest, d.failed_at, d.created_at, \
         d.source, d.state, d.state_at, d.replays, d.republish, d.edits, d.edited_value, d.decided_by, d.note, \
         d.imported, d.sequence, d.holds"
    };
}
pub(super) use columns;

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM taskhost.dead_letters d WHERE group_id = $1 ORDER BY created_at DESC, record_offset DESC, id LIMIT $2"
);

impl Store {
    /// The group's dead letters, the last first.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn list_dead_letters(
        &self,
        group: &str,
        limit: u32,
    ) -> Result<Vec<StoredDeadLetter>, Error> {
        let statement = sqlx::query(LIST).bind(group).bind(i64::from(limit));
        let rows = self.read_rows(statement).await?;
        rows.iter().map(stored).collect()
    }
}

pub(super) fn stored(row: &PgRow) -> Result<StoredDeadLetter, Error> {
    let (group, topic): (&str, &str) = (row.try_get("group_id")?, row.try_get("topic")?);
    let record_topic: &str = row.try_get("record_topic")?;
    let stage = match row.try_get("stage")? {
        "decode" => Stage::Decode,
        "publish" => Stage::Publish,
        _ => Stage::Decide,
    };
    let task: Option<&str> = row.try_get("task_id")?;
    let (failed_at, created_at): (Millis, Millis) =
        (row.try_get("failed_at")?, row.try_get("created_at")?);
    let message = Message {
        position: TopicPartition::new(record_topic, row.try_get("record_partition")?)
            .at(row.try_get("record_offset")?),
        timestamp: row.try_get("record_timestamp")?,
        key: row.try_get("key")?,
        value: row.try_get("value")?,
        headers: headers(row.try_get("headers")?)?,
    };
    let letter = DeadLetter {
        id: row.try_get("id")?,
        message: Arc::new(message),
        code: row.try_get("code")?,
        reason: row.try_get("reason")?,
        backtrace: row.try_get("backtrace")?,
        stage,
        attempts: row.try_get("attempts")?,
        task_id: task.map(|_| task_id(row, "task_id")).transpose()?,
        route: row.try_get("route")?,
        plugin: plugin(row)?.map(Arc::new),
        failed_at: failed_at.0,
        source: Source::from_name(row.try_get("source")?).unwrap_or(Source::Record),
        replays: row.try_get("replays")?,
        sequence: row.try_get("sequence")?,
        holds: row.try_get("holds")?,
    };
    let state: &str = row.try_get("state")?;
    let state_at: Millis = row.try_get("state_at")?;
    Ok(StoredDeadLetter {
        owner: Key::new(group, TopicPartition::new(topic, row.try_get("partition")?)),
        letter,
        created_at: created_at.0,
        state: State::from_name(state).ok_or_else(|| {
            Error::Unreadable(sqlx::Error::Decode("unknown state of a dead letter".into()))
        })?,
        state_at: state_at.0,
        republish: row.try_get("republish")?,
        edits: row.try_get("edits")?,
        edited_value: row.try_get("edited_value")?,
        decided_by: row.try_get("decided_by")?,
        note: row.try_get("note")?,
        imported: row.try_get("imported")?,
    })
}

fn plugin(row: &PgRow) -> Result<Option<PluginVersion>, Error> {
    let name: Option<String> = row.try_get("plugin_name")?;
    let Some(name) = name else {
        return Ok(None);
    };
    Ok(Some(PluginVersion {
        name,
        version: row.try_get("plugin_version")?,
        digest: row.try_get("plugin_digest")?,
    }))
}

/// Reads back what a batch wrote as a dead letter's headers.
pub(super) fn headers(text: &str) -> Result<Vec<Header>, Error> {
    #[derive(serde::Deserialize)]
    struct Stored {
        name: String,
        text: Option<String>,
        hex: Option<String>,
    }
    let unreadable = |error| Error::Unreadable(sqlx::Error::Decode(error));
    let all: Vec<Stored> = serde_json::from_str(text).map_err(|error| unreadable(error.into()))?;
    all.into_iter()
        .map(|header| {
            let value = match (header.text, header.hex) {
                (Some(text), _) => Some(text.into_bytes()),
                (None, Some(digits)) => {
                    Some(hex::decode(digits).map_err(|error| unreadable(error.into()))?)
                }
                (None, None) => None,
            };
            Ok((header.name, value))
        })
        .collect()
}
