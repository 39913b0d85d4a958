//! A batch in a transaction of its own: progress and tasks are locked before they are read.
//!
//! The host uses it as the last resort for a round that lost to others too often: [`Store::lock`], then [`Batch::complete`]. All
//! other rounds are committed by [`Store::commit`]. The methods that lock, check and write statement by statement
//! ([`Batch::lock_wakeups`], [`Batch::check_activations`], [`Batch::write`], [`Batch::commit`]) are called by tests only.

use std::collections::HashMap;

use sqlx::Row;
use taskhost_core::batch::{Wakeup, WriteSet};
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::outcome::Counts;
use taskhost_core::record::Offset;
use taskhost_core::task::{Task, TaskId};
use uuid::Uuid;

use super::Key;
use super::dlq;
use super::error::Error;
use super::keyed::{Epoch, keyed};
use super::millis::Millis;
use super::open::{Batch, Commit};
use super::pool::Store;
use super::question::Checkpoint;
use super::row::task;
use super::session::{Ended, Session};
use super::settle;
use super::versions;
use super::wakeups;
use super::write;
use crate::failpoint;
use crate::mutant::{self, Mutant};

const LOCK_PROGRESS: &str = "
SELECT batch, next_offset, batch_token FROM taskhost.progress
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4
FOR UPDATE";

const LOCK_TASKS: &str = "
SELECT id, type, status, data::text AS data, version, created_at, updated_at
FROM taskhost.tasks WHERE id = ANY ($1) ORDER BY id FOR UPDATE";

/// The hint may be null; `GREATEST` then keeps what is there.
const ADVANCE: &str = "
WITH advanced AS (
    UPDATE taskhost.progress SET
        next_offset = $6, batch = batch + 1, batch_token = $7,
        published = GREATEST(published, CASE WHEN $8 <= batch THEN $8 END),
        consumed = consumed + $9, applied = applied + $10, ignored = ignored + $11,
        deferred = deferred + $12, dead_letters = dead_letters + $13 - $18, timers = timers + $14,
        worked_ms = GREATEST(worked_ms, $17)
    WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND batch = $5 AND next_offset = $15
    RETURNING batch
)
INSERT INTO taskhost.outbox (group_id, topic, partition, batch, frame)
SELECT $1, $2, $3, batch, $16 FROM advanced";

impl Store {
    /// Begins a batch: locks the partition's progress, so that nobody claims it meanwhile.
    ///
    /// # Errors
    /// [`Error::Lost`] if somebody else claimed the partition.
    pub async fn begin(&self, key: &Key, epoch: Epoch) -> Result<Batch, Error> {
        let mut session = Session::begin(self).await?;
        let epoch = match mutant::is_armed(Mutant::Epoch) {
            true => last_claim(&mut session, key).await?,
            false => epoch,
        };
        let Some(row) = session.row(keyed(LOCK_PROGRESS, key).bind(epoch)).await? else {
            return session.fail(Error::Lost);
        };
        let next_offset: Option<Offset> = row.try_get("next_offset")?;
        let Some(next_offset) = next_offset else {
            return session.fail(Error::Inconsistent {
                what: "partition that was started",
                expected: 1,
                found: 0,
            });
        };
        Ok(Batch {
            store: self.clone(),
            seen: row.try_get("batch")?,
            token: row.try_get("batch_token")?,
            session,
            key: key.clone(),
            epoch,
            next_offset,
            versions: HashMap::new(),
            counts: Counts::default(),
            worked: 0,
        })
    }
}

impl Batch {
    /// The number that this batch will have: that of its frame.
    pub fn number(&self) -> BatchNumber {
        self.seen + 1
    }

    /// Where the partition was when it began.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            batch: self.seen,
            next_offset: self.next_offset,
            token: self.token,
        }
    }

    /// The next record to decide, as stored.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Locks those of the tasks that exist, in id order, and reads them.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn lock_tasks(&mut self, ids: &[TaskId]) -> Result<Vec<Task>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&str> = ids.iter().map(TaskId::as_str).collect();
        let rows = self.session.rows(sqlx::query(LOCK_TASKS).bind(ids)).await?;
        let tasks: Vec<Task> = rows.iter().map(task).collect::<Result<_, _>>()?;
        let versions = tasks.iter().map(|task| (task.id.clone(), task.version));
        self.versions.extend(versions);
        Ok(tasks)
    }

    /// Locks those of the wakeups that still count, in id order: the same row, still this partition's; a timer that is due.
    /// Lock their tasks first: a timer is cancelled or replaced under its task's lock.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn lock_wakeups(&mut self, ids: &[Uuid], now: i64) -> Result<Vec<Wakeup>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let statement = keyed(wakeups::LOCK, &self.key).bind(ids).bind(Millis(now));
        let rows = self.session.rows(statement).await?;
        rows.iter().map(wakeups::wakeup).collect()
    }

    /// Whether each of the routes still has this activation number (0 for none). From here to the end of
    /// the batch none of them can get another.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn check_activations(&mut self, routes: &[(&str, i64)]) -> Result<bool, Error> {
        if routes.is_empty() {
            return Ok(true);
        }
        let mut routes = routes.to_vec();
        routes.sort_unstable();
        let (names, numbers): (Vec<&str>, Vec<i64>) = routes.into_iter().unzip();
        let keys: Vec<i64> = names.iter().map(|name| versions::lock_key(name)).collect();
        let lock = sqlx::query(versions::LOCK_SHARED).bind(keys);
        self.session.execute(lock).await?;
        // A statement of its own: one with the locks would read what was there before it waited for them.
        let read = sqlx::query(versions::UNCHANGED).bind(names).bind(numbers);
        let row = self.session.row(read).await?;
        row.map_or(Ok(false), |row| Ok(row.try_get("unchanged")?))
    }

    /// Writes everything but progress and frame, and gives the first message of each settled task its turn at `now`.
    ///
    /// # Errors
    /// [`Error::CreationRaced`] if another partition created one of the tasks first; else see
    /// [`Error::disposition`].
    pub async fn write(&mut self, set: &WriteSet, now: i64) -> Result<(), Error> {
        write::tasks(self, set).await?;
        write::events(self, &set.events).await?;
        write::wakeups(self, set).await?;
        write::dead_letters(self, &set.dead_letters).await?;
        dlq::replayed(self, &set.replayed).await?;
        settle::batch(self, &set.settled, now).await?;
        self.counts = set.counts;
        Ok(())
    }

    /// Says how long the partition has worked so far, in milliseconds. Only ever raises what is stored.
    #[must_use]
    pub fn having_worked(mut self, worked: i64) -> Self {
        self.worked = worked;
        self
    }

    /// Advances progress from `from` to the frame's offset, stores the frame and commits. `token` is random, new for each
    /// attempt. `published` is the highest batch known to be published, if that is known.
    ///
    /// # Errors
    /// Then it is certain that nothing was committed. [`Error::Lost`] if progress is not where it was.
    pub async fn commit(
        mut self,
        from: Offset,
        frame: Frame,
        token: Uuid,
        published: Option<BatchNumber>,
    ) -> Result<Commit, Error> {
        if frame.batch != self.number() {
            let found = frame.batch;
            let batch = self.number();
            return self.session.fail(Error::FrameMisplaced { batch, found });
        }
        let from = match mutant::is_armed(Mutant::Epoch) {
            true => self.next_offset,
            false => from,
        };
        let counts = self.counts;
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let statement = keyed(ADVANCE, &self.key)
            .bind(self.epoch)
            .bind(self.seen)
            .bind(frame.next_offset)
            .bind(token)
            .bind(published)
            .bind(count(counts.consumed()))
            .bind(count(counts.applied))
            .bind(count(counts.ignored))
            .bind(count(counts.deferred))
            .bind(count(counts.dead_letters))
            .bind(count(counts.timers))
            .bind(from)
            .bind(frame.encode())
            .bind(self.worked)
            .bind(count(counts.left_dead_letters));
        if self.session.execute(statement).await? == 0 {
            return self.session.fail(Error::Lost);
        }
        failpoint::hit("before-postgres-commit");
        let ended = self.session.commit().await?;
        failpoint::hit("after-postgres-commit");
        Ok(match ended {
            Ended::Committed => Commit::Committed(frame),
            Ended::Unknown(error) => Commit::Unknown { frame, error },
        })
    }

    /// Gives up everything and waits until the locks are free.
    pub async fn rollback(self) {
        self.session.rollback().await;
    }
}

/// Whoever's claim it is: what a batch goes by whose own claim isn't looked at ([`Mutant::Epoch`]).
async fn last_claim(session: &mut Session, key: &Key) -> Result<Epoch, Error> {
    let sql = "SELECT epoch FROM taskhost.progress
               WHERE group_id = $1 AND topic = $2 AND partition = $3 FOR UPDATE";
    let row = session.row(keyed(sql, key)).await?;
    row.map_or(Ok(0), |row| Ok(row.try_get("epoch")?))
}
