//! Progress of partitions: claiming them, starting them, and the frames they still owe.

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::record::{Offset, TopicPartition};
use taskhost_core::recovery::Progress;
use uuid::Uuid;

use super::Key;
use super::activation_starts::{self, STARTED, Started};
use super::error::Error;
use super::halts::{Halted, halted};
use super::keyed::{Epoch, keyed};
use super::pool::Store;
use super::schema::Statement;
use super::session::Session;
use super::waiting::HOLDING;
use super::wakeups::COUNT_WAITING;

/// What a claim found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// To write under, until somebody else claims.
    pub epoch: Epoch,
    /// Transactional ids that may still have a transaction open, perhaps one's own among them: to be fenced.
    pub previous_owners: Vec<String>,
    /// Where the partition is.
    pub progress: Progress,
    /// Messages that wait.
    pub waiting: i64,
    /// Whether there are dead letters that hold their task.
    pub holding: bool,
    /// How long it has worked, in milliseconds.
    pub worked: i64,
    /// Whether the row says something of a halt, or of a decision about one, that is over once the partition is ready.
    pub unresolved: bool,
    /// The activations that took effect last.
    pub started: Started,
}

/// How the records of a partition ended, since it was started. `consumed` is the sum of `applied`, `ignored`,
/// `dead_letters` and the messages that wait now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records taken from the log.
    pub consumed: i64,
    /// Records that created or changed their task.
    pub applied: i64,
    /// Records that changed nothing.
    pub ignored: i64,
    /// Records that ever began to wait.
    pub deferred: i64,
    /// Records given up on.
    pub dead_letters: i64,
    /// Timers that fired.
    pub timers: i64,
}

/// A partition's row, for health and people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Which partition.
    pub partition: TopicPartition,
    /// Where it is.
    pub progress: Progress,
    /// The last claim.
    pub epoch: Epoch,
    /// Transactional ids that may have a transaction open.
    pub owners: Vec<String>,
    /// How its records ended.
    pub counters: Counters,
    /// Messages that wait now.
    pub waiting: i64,
    /// Timers that are set.
    pub timers: i64,
    /// How long it has worked, in milliseconds.
    pub worked: i64,
    /// Frames that are stored.
    pub frames: i64,
    /// Why it stands still, if it does.
    pub halted: Option<Halted>,
}

const INSERT: &str = "
INSERT INTO taskhost.progress (group_id, topic, partition) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

/// One statement, and the locked row is what it computes from: a plain subselect would return the owners as they were
/// before the claim that this one waited for.
const CLAIM: &str = "
UPDATE taskhost.progress AS p
SET epoch = old.epoch + 1,
    owners = old.owners || ARRAY(SELECT own FROM unnest($4::text[]) own WHERE own <> ALL (old.owners))
FROM (
    SELECT epoch, owners FROM taskhost.progress
    WHERE group_id = $1 AND topic = $2 AND partition = $3
    FOR UPDATE
) AS old
WHERE p.group_id = $1 AND p.topic = $2 AND p.partition = $3
RETURNING p.epoch, old.owners AS previous, p.topic_id, p.next_offset, p.batch, p.batch_token, p.published, p.decided_watermark, p.worked_ms,
    p.halted_code IS NOT NULL OR p.decided_watermark IS NOT NULL AS unresolved";

const SNAPSHOT: &str = "
SELECT p.*,
       (SELECT count(*) FROM taskhost.wakeups w WHERE w.kind = 'deferred' AND w.why <> 'task-missing'
          AND (w.group_id, w.topic, w.partition) = (p.group_id, p.topic, p.partition))
       + (SELECT count(*) FROM taskhost.wakeups w WHERE w.kind = 'deferred' AND w.why = 'task-missing'
          AND (w.group_id, w.topic, w.partition) = (p.group_id, p.topic, p.partition)) AS waiting_now,
       (SELECT count(*) FROM taskhost.wakeups w WHERE w.kind = 'timer'
          AND (w.group_id, w.topic, w.partition) = (p.group_id, p.topic, p.partition)) AS timers_now,
       (SELECT count(*) FROM taskhost.outbox o
          WHERE (o.group_id, o.topic, o.partition) = (p.group_id, p.topic, p.partition)) AS frames_now
FROM taskhost.progress p WHERE p.group_id = $1 ORDER BY p.topic, p.partition";

impl Store {
    /// Takes a partition: from now on nobody who claimed it before can write for it. Waits for a batch that is open.
    /// `own_ids` are the transactional ids that this host may open transactions under.
    ///
    /// # Errors
    /// Trouble only; a claim whose answer was lost may be repeated.
    pub async fn claim(&self, key: &Key, own_ids: &[String]) -> Result<Claim, Error> {
        let mut session = Session::begin(self).await?;
        session.execute(keyed(INSERT, key)).await?;
        let Some(row) = session.row(keyed(CLAIM, key).bind(own_ids)).await? else {
            return session.fail(Error::Lost);
        };
        // After the claim, so that it sees the batch that the claim waited for.
        let waiting = match session.row(keyed(COUNT_WAITING, key)).await? {
            Some(row) => row.try_get("waiting")?,
            None => 0,
        };
        let holding = session.row(keyed(HOLDING, key)).await?.is_some();
        let started = activation_starts::started(&session.rows(keyed(STARTED, key)).await?)?;
        session.commit_or_repeat().await?;
        Ok(Claim {
            epoch: row.try_get("epoch")?,
            previous_owners: row.try_get("previous")?,
            progress: progress(&row)?,
            waiting,
            holding,
            worked: row.try_get("worked_ms")?,
            unresolved: row.try_get("unresolved")?,
            started,
        })
    }

    /// Once everybody else is fenced: leaves one's own transactional ids as the only owners.
    ///
    /// # Errors
    /// [`Error::Lost`] if somebody else claimed the partition.
    pub async fn own_alone(&self, key: &Key, epoch: Epoch, ids: &[String]) -> Result<(), Error> {
        let sql = "UPDATE taskhost.progress SET owners = $5
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4";
        self.owned(keyed(sql, key).bind(epoch).bind(ids)).await
    }

    /// Stores where a partition starts that was never started.
    ///
    /// # Errors
    /// [`Error::Lost`] if somebody else claimed the partition, or it is started already.
    pub async fn start(
        &self,
        key: &Key,
        epoch: Epoch,
        next_offset: Offset,
        topic_id: Uuid,
    ) -> Result<(), Error> {
        let sql = "UPDATE taskhost.progress SET next_offset = $5, topic_id = $6
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4
                     AND next_offset IS NULL";
        let statement = keyed(sql, key).bind(epoch).bind(next_offset).bind(topic_id);
        self.owned(statement).await
    }

    /// Whether a partition of the topic was ever started by the group.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn topic_known(&self, group: &str, topic: &str) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT FROM taskhost.progress
                   WHERE group_id = $1 AND topic = $2 AND next_offset IS NOT NULL) AS known";
        let row = self
            .read_row(sqlx::query(sql).bind(group).bind(topic))
            .await?;
        row.map_or(Ok(false), |row| Ok(row.try_get("known")?))
    }

    /// Records that batches are published up to this one. Only ever raises, needs no claim, and says whether it
    /// raised.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn set_published(&self, key: &Key, batch: BatchNumber) -> Result<bool, Error> {
        let sql = "UPDATE taskhost.progress SET published = $4
                   WHERE group_id = $1 AND topic = $2 AND partition = $3
                     AND batch >= $4 AND (published IS NULL OR published < $4)";
        let mut session = Session::begin(self).await?;
        let raised = session.execute(keyed(sql, key).bind(batch)).await?;
        session.commit_or_repeat().await?;
        Ok(raised > 0)
    }

    /// Stores how long a partition has worked, in milliseconds, while nothing else is stored. Only ever raises it, and
    /// only for the owner.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn set_worked(&self, key: &Key, epoch: Epoch, worked: i64) -> Result<(), Error> {
        let sql = "UPDATE taskhost.progress SET worked_ms = $5
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND worked_ms < $5";
        let mut session = Session::begin(self).await?;
        session
            .execute(keyed(sql, key).bind(epoch).bind(worked))
            .await?;
        session.commit_or_repeat().await
    }

    /// Takes one's transactional ids off a partition that is given back with its last transaction resolved. False if
    /// somebody else has claimed it already: then the ids are being fenced, which does no harm.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn release(&self, key: &Key, epoch: Epoch, ids: &[String]) -> Result<bool, Error> {
        let sql = "UPDATE taskhost.progress
                   SET owners = ARRAY(SELECT one FROM unnest(owners) one WHERE one <> ALL ($5::text[]))
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4";
        match self.owned(keyed(sql, key).bind(epoch).bind(ids)).await {
            Ok(()) => Ok(true),
            Err(Error::Lost) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The stored frames from `first` to `last`, in order. One that is missing is missing in the answer too.
    ///
    /// # Errors
    /// [`Error::FrameUnreadable`] or [`Error::FrameMisplaced`] with the batch's number.
    pub async fn frames(
        &self,
        key: &Key,
        first: BatchNumber,
        last: BatchNumber,
    ) -> Result<Vec<Frame>, Error> {
        let sql = "SELECT batch, frame FROM taskhost.outbox
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 AND batch BETWEEN $4 AND $5
                   ORDER BY batch";
        let rows = self
            .read_rows(keyed(sql, key).bind(first).bind(last))
            .await?;
        rows.iter().map(frame).collect()
    }

    /// Removes the frames up to a batch, and says how many there were. Only what is published may go.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn trim(&self, key: &Key, up_to: BatchNumber) -> Result<u64, Error> {
        let sql = "DELETE FROM taskhost.outbox
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 AND batch <= $4";
        let mut session = Session::begin(self).await?;
        let removed = session.execute(keyed(sql, key).bind(up_to)).await?;
        session.commit_or_repeat().await?;
        Ok(removed)
    }

    /// After a COMMIT without an answer: whether the batch with this token is the partition's last. Waits until the
    /// attempt has ended either way. If it is not, somebody else may have gone on since: claim and recover.
    ///
    /// # Errors
    /// Trouble only, also while the attempt's connection still lives on the server: ask again.
    pub async fn settle(&self, key: &Key, token: Uuid) -> Result<bool, Error> {
        let sql = "SELECT batch_token FROM taskhost.progress
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 FOR UPDATE";
        let row = self.read_row(keyed(sql, key)).await?;
        let stored: Option<Uuid> = match row {
            Some(row) => row.try_get("batch_token")?,
            None => None,
        };
        Ok(stored == Some(token))
    }

    /// Every partition of the group.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn snapshot(&self, group: &str) -> Result<Vec<PartitionProgress>, Error> {
        let rows = self.read_rows(sqlx::query(SNAPSHOT).bind(group)).await?;
        rows.iter().map(partition_progress).collect()
    }

    /// Writes the partition's row under an epoch.
    pub(super) async fn owned(&self, statement: Statement<'_>) -> Result<(), Error> {
        let mut session = Session::begin(self).await?;
        match session.execute(statement).await? {
            0 => session.fail(Error::Lost),
            _ => session.commit_or_repeat().await,
        }
    }
}

fn progress(row: &PgRow) -> Result<Progress, Error> {
    Ok(Progress {
        topic_id: row.try_get("topic_id")?,
        next_offset: row.try_get("next_offset")?,
        batch: row.try_get("batch")?,
        token: row.try_get("batch_token")?,
        published: row.try_get("published")?,
        decided_watermark: row.try_get("decided_watermark")?,
    })
}

fn frame(row: &PgRow) -> Result<Frame, Error> {
    let batch = row.try_get("batch")?;
    let frame = Frame::decode(row.try_get("frame")?)
        .map_err(|source| Error::FrameUnreadable { batch, source })?;
    match frame.batch == batch {
        true => Ok(frame),
        false => Err(Error::FrameMisplaced {
            batch,
            found: frame.batch,
        }),
    }
}

fn partition_progress(row: &PgRow) -> Result<PartitionProgress, Error> {
    let topic: &str = row.try_get("topic")?;
    Ok(PartitionProgress {
        partition: TopicPartition::new(topic, row.try_get("partition")?),
        progress: progress(row)?,
        epoch: row.try_get("epoch")?,
        owners: row.try_get("owners")?,
        counters: Counters {
            consumed: row.try_get("consumed")?,
            applied: row.try_get("applied")?,
            ignored: row.try_get("ignored")?,
            deferred: row.try_get("deferred")?,
            dead_letters: row.try_get("dead_letters")?,
            timers: row.try_get("timers")?,
        },
        waiting: row.try_get("waiting_now")?,
        timers: row.try_get("timers_now")?,
        worked: row.try_get("worked_ms")?,
        frames: row.try_get("frames_now")?,
        halted: halted(row)?,
    })
}
