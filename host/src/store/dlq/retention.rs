//! What is done with goes, in small batches, by one host of the fleet at a time.
//!
//! Dead letters that are open, replaying, waiting or parked stay for ever, and so does every frame above the watermark.

use std::time::Duration;

use crate::store::error::Error;
use crate::store::pool::Store;
use crate::store::session::Session;
use sqlx::Row;

/// How long and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// How long a dead letter is kept that is done with.
    pub age_max: Duration,
    /// How many of them.
    pub count_max: u64,
    /// Rows that one transaction removes.
    pub rows_max: u32,
}

/// What one pass removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Dead letters that were done with.
    pub dead_letters: u64,
    /// Frames that Kafka has.
    pub frames: u64,
    /// Wakeups that stand for nothing.
    pub wakeups: u64,
}

impl Trimmed {
    /// Whether there may be more.
    pub fn is_full(&self, kept: &Kept) -> bool {
        let most = u64::from(kept.rows_max);
        self.dead_letters >= most || self.frames >= most || self.wakeups >= most
    }
}

/// Held until the transaction ends, so that a host that dies gives it back.
const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS held";

const OLD: &str = "
DELETE FROM taskhost.dead_letters WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM taskhost.dead_letters
    WHERE group_id = $1 AND state IN ('applied', 'ignored', 'discarded', 'republished')
      AND state_at < now() - $2::bigint * INTERVAL '1 millisecond'
    ORDER BY state_at, id LIMIT $3 FOR UPDATE SKIP LOCKED))";

/// Beyond the number: the oldest first.
const MANY: &str = "
DELETE FROM taskhost.dead_letters WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM taskhost.dead_letters
    WHERE group_id = $1 AND state IN ('applied', 'ignored', 'discarded', 'republished')
    ORDER BY state_at, id
    LIMIT GREATEST(0, LEAST($3, (
        SELECT count(*) FROM taskhost.dead_letters
        WHERE group_id = $1 AND state IN ('applied', 'ignored', 'discarded', 'republished')) - $2))
    FOR UPDATE SKIP LOCKED))";

/// `published` is a lower bound of the watermark: what it covers, Kafka has.
const FRAMES: &str = "
DELETE FROM taskhost.outbox WHERE ctid = ANY (ARRAY(
    SELECT o.ctid FROM taskhost.progress p JOIN taskhost.outbox o USING (group_id, topic, partition)
    WHERE p.group_id = $1 AND o.batch <= p.published LIMIT $2 FOR UPDATE OF o SKIP LOCKED))";

const WAKEUPS: &str = "
DELETE FROM taskhost.wakeups WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM taskhost.wakeups w
    WHERE group_id = $1 AND kind = 'replay'
      AND (SELECT d.id FROM taskhost.dead_letters d WHERE d.wakeup = w.id AND d.group_id COLLATE \"POSIX\" = $1) IS NULL
    LIMIT $2))";

impl Store {
    /// One pass over a group's leavings; none if another host is at it.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn trim_leavings(&self, group: &str, kept: &Kept) -> Result<Option<Trimmed>, Error> {
        let mut session = Session::begin(self).await?;
        let name = format!("taskhost retention {group}");
        let held = session.row(sqlx::query(TRY_LOCK).bind(name)).await?;
        let held = held.map_or(Ok(false), |row| row.try_get("held"))?;
        if !held {
            session.rollback().await;
            return Ok(None);
        }
        let most = i64::from(kept.rows_max);
        let age = i64::try_from(kept.age_max.as_millis()).unwrap_or(i64::MAX);
        let count = i64::try_from(kept.count_max).unwrap_or(i64::MAX);
        let old = sqlx::query(OLD).bind(group).bind(age).bind(most);
        let mut dead_letters = session.execute(old).await?;
        if dead_letters == 0 {
            let many = sqlx::query(MANY).bind(group).bind(count).bind(most);
            dead_letters = session.execute(many).await?;
        }
        let frames = sqlx::query(FRAMES).bind(group).bind(most);
        let frames = session.execute(frames).await?;
        let wakeups = sqlx::query(WAKEUPS).bind(group).bind(most);
        let wakeups = session.execute(wakeups).await?;
        session.commit_or_repeat().await?;
        Ok(Some(Trimmed {
            dead_letters,
            frames,
            wakeups,
        }))
    }
}
