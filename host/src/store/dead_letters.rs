//! Dead letters, as people look at them.

use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::dead_letter::{DeadLetter, Stage};
use taskhost_core::record::{Header, Message, TopicPartition};
use taskhost_core::task::PluginVersion;

use super::Key;
use super::batch::task_id;
use super::error::Error;
use super::millis::Millis;
use super::pool::Store;
use super::session::Session;

/// A dead letter's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Whose batch gave up on it.
    pub owner: Key,
    /// The dead letter.
    pub letter: DeadLetter,
    /// When it was stored, in milliseconds since 1970, by the database's clock.
    pub created_at: i64,
}

const LIST: &str = "
SELECT group_id, id, topic, partition, record_topic, record_partition, record_offset, record_timestamp,
       key, value, headers::text AS headers, code, reason, backtrace, stage, attempts, task_id, route,
       plugin_name, plugin_version, plugin_digest, failed_at, created_at
FROM dead_letters WHERE group_id = $1 ORDER BY created_at DESC, record_offset DESC, id LIMIT $2";

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
        let mut session = Session::begin(self).await?;
        let rows = session.rows(statement).await?;
        session.rollback().await;
        rows.iter().map(stored).collect()
    }
}

fn stored(row: &PgRow) -> Result<StoredDeadLetter, Error> {
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
    };
    Ok(StoredDeadLetter {
        owner: Key::new(group, TopicPartition::new(topic, row.try_get("partition")?)),
        letter,
        created_at: created_at.0,
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
fn headers(text: &str) -> Result<Vec<Header>, Error> {
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
