//! Halted partitions: said in the partition's row by its worker, resolved there by a person's command.
//!
//! A resolution raises the epoch, so that whoever works on the partition reads everything anew.

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::dead_letter::DeadLetter;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::halt::Halt;
use taskhost_core::record::TopicPartition;
use taskhost_core::recovery::Progress;
use taskhost_core::reset::Plan;
use uuid::Uuid;

use super::Key;
use super::error::Error;
use super::keyed::{Epoch, keyed};
use super::millis::Millis;
use super::pool::Store;
use super::session::Session;
use super::write;

/// Why a partition stands still, as its row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halted {
    /// The reason's name.
    pub code: String,
    /// The reason and what to do, for people.
    pub reason: String,
    /// The output topic that refuses a message, and the message's batch, where that is the reason.
    pub message: Option<(String, BatchNumber)>,
    /// Since when, in milliseconds since 1970, by the database's clock.
    pub at: i64,
}

const HALT: &str = "
UPDATE taskhost.progress SET halted_code = $5, halted_reason = $6, halted_topic = $7, halted_batch = $8, halted_at = now()
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4";

/// A statement that makes a partition stand still no more, and what else it does.
macro_rules! resolve {
    ($more:literal) => {
        concat!(
            "UPDATE taskhost.progress SET halted_code = NULL, halted_reason = NULL, halted_topic = NULL, \
             halted_batch = NULL, halted_at = NULL",
            $more
        )
    };
}

const RECOVERED: &str = resolve!(
    ", decided_watermark = NULL
     WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4"
);

const RESUME: &str = resolve!(
    " WHERE group_id = $1 AND halted_code IS NOT NULL
        AND ($2::text IS NULL OR (topic = $2 AND partition = $3))
      RETURNING topic, partition"
);

/// Only where the partition is still as it was seen.
const RESET: &str = resolve!(
    ", next_offset = $6, topic_id = $7, batch = $8, published = $9, decided_watermark = $9, epoch = epoch + 1
     WHERE group_id = $1 AND topic = $2 AND partition = $3 AND batch = $4 AND next_offset IS NOT DISTINCT FROM $5"
);

const TOPIC_ID: &str = "
SELECT topic_id FROM taskhost.progress WHERE group_id = $1 AND topic = $2 AND partition = $3 FOR UPDATE";

/// By how much the sequences of an earlier topic id sink, so that all of them come before offset 0. By the same for all, so
/// that they keep their order, also with those that sank before.
const GREATEST: &str = "
SELECT GREATEST(
    (SELECT max(sequence) FROM taskhost.wakeups
     WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind IN ('deferred', 'replay')
       AND sequence < 9223372036854775807),
    (SELECT max(sequence) FROM taskhost.dead_letters WHERE group_id = $1 AND topic = $2 AND partition = $3), -1) + 1 AS sunk";

const SINK_WAKEUPS: &str = "
UPDATE taskhost.wakeups SET sequence = sequence - $4
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind IN ('deferred', 'replay')
  AND sequence < 9223372036854775807";

const SINK_LETTERS: &str = "
UPDATE taskhost.dead_letters SET sequence = sequence - $4
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND sequence IS NOT NULL";

const DIVERT: &str = resolve!(
    ", epoch = epoch + 1
     WHERE group_id = $1 AND topic = $2 AND partition = $3 AND halted_code = 'unpublishable-message'"
);

const REPLACE_FRAME: &str = "
UPDATE taskhost.outbox SET frame = $5 WHERE group_id = $1 AND topic = $2 AND partition = $3 AND batch = $4";

impl Store {
    /// Says in the partition's row that it stands still, and why.
    ///
    /// # Errors
    /// [`Error::Lost`] if somebody else claimed the partition.
    pub async fn halt(&self, key: &Key, epoch: Epoch, halt: &Halt) -> Result<(), Error> {
        let reason = format!("{halt}; {}", halt.next_step(&key.partition));
        let (topic, batch) = match halt {
            Halt::Unpublishable { topic, batch, .. } => (Some(topic), Some(batch)),
            _ => (None, None),
        };
        let statement = keyed(HALT, key)
            .bind(epoch)
            .bind(halt.code())
            .bind(reason)
            .bind(topic)
            .bind(batch);
        self.owned(statement).await
    }

    /// Whether the partition's row still says that it stands still.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn is_halted(&self, key: &Key) -> Result<bool, Error> {
        let sql = "SELECT halted_code IS NOT NULL AS halted FROM taskhost.progress
                   WHERE group_id = $1 AND topic = $2 AND partition = $3";
        let row = self.read_row(keyed(sql, key)).await?;
        row.map_or(Ok(false), |row| Ok(row.try_get("halted")?))
    }

    /// The partition is ready: whatever halted it is over, and what was decided about it is done.
    ///
    /// # Errors
    /// [`Error::Lost`] if somebody else claimed the partition.
    pub async fn recovered(&self, key: &Key, epoch: Epoch) -> Result<(), Error> {
        self.owned(keyed(RECOVERED, key).bind(epoch)).await
    }

    /// Asks the hosts to try the group's halted partitions again, or one of them. Says which they are.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn resume(
        &self,
        group: &str,
        partition: Option<&TopicPartition>,
    ) -> Result<Vec<TopicPartition>, Error> {
        let statement = sqlx::query(RESUME)
            .bind(group)
            .bind(partition.map(|partition| &*partition.topic))
            .bind(partition.map(|partition| partition.partition));
        let mut session = Session::begin(self).await?;
        let rows = session.rows(statement).await?;
        session.commit_or_repeat().await?;
        rows.iter()
            .map(|row| {
                let topic: &str = row.try_get("topic")?;
                Ok(TopicPartition::new(topic, row.try_get("partition")?))
            })
            .collect()
    }

    /// Carries out what a person decided, if the partition is still where it was when that was planned. If the topic was made
    /// anew, what waits since before comes before all its records.
    ///
    /// # Errors
    /// [`Error::Lost`] if it has moved since.
    pub async fn reset(
        &self,
        key: &Key,
        seen: Progress,
        plan: &Plan,
        topic_id: Uuid,
    ) -> Result<(), Error> {
        let statement = keyed(RESET, key)
            .bind(seen.batch)
            .bind(seen.next_offset)
            .bind(plan.next_offset)
            .bind(topic_id)
            .bind(plan.batch)
            .bind(plan.published);
        let mut session = Session::begin(self).await?;
        let earlier = session.row(keyed(TOPIC_ID, key)).await?;
        let earlier: Option<Uuid> = match earlier {
            Some(row) => row.try_get("topic_id")?,
            None => None,
        };
        if session.execute(statement).await? == 0 {
            return session.fail(Error::Lost);
        }
        if earlier.is_some_and(|earlier| earlier != topic_id) {
            sink(&mut session, key).await?;
        }
        session.commit_or_repeat().await
    }

    /// Takes messages out of a frame that can't be published, keeps them as dead letters, and lets the partition go on.
    ///
    /// # Errors
    /// [`Error::Lost`] if the partition isn't halted any more, or its frame is gone.
    pub async fn divert(
        &self,
        key: &Key,
        frame: &Frame,
        letters: &[DeadLetter],
    ) -> Result<(), Error> {
        let mut session = Session::begin(self).await?;
        let replace = keyed(REPLACE_FRAME, key)
            .bind(frame.batch)
            .bind(frame.encode());
        for statement in [keyed(DIVERT, key), replace] {
            if session.execute(statement).await? == 0 {
                return session.fail(Error::Lost);
            }
        }
        write::insert_dead_letters(&mut session, key, letters).await?;
        session.commit_or_repeat().await
    }
}

/// Puts what waits and the dead letters before all offsets of the topic that was made anew.
async fn sink(session: &mut Session, key: &Key) -> Result<(), Error> {
    let row = session.row(keyed(GREATEST, key)).await?;
    let sunk: i64 = row.map_or(Ok(0), |row| row.try_get("sunk"))?;
    for sql in [SINK_WAKEUPS, SINK_LETTERS] {
        session.execute(keyed(sql, key).bind(sunk)).await?;
    }
    Ok(())
}

/// What a row of `progress` says of a halt.
pub(super) fn halted(row: &PgRow) -> Result<Option<Halted>, Error> {
    let code: Option<String> = row.try_get("halted_code")?;
    let Some(code) = code else { return Ok(None) };
    let at: Millis = row.try_get("halted_at")?;
    let topic: Option<String> = row.try_get("halted_topic")?;
    let batch: Option<BatchNumber> = row.try_get("halted_batch")?;
    Ok(Some(Halted {
        code,
        reason: row.try_get("halted_reason")?,
        message: topic.zip(batch),
        at: at.0,
    }))
}
