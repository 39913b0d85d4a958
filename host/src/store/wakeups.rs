//! Wakeups outside of a batch: when the next is due, hints to look at them sooner, and what can't be decided.
//!
//! A hint makes due what is the first of its task in its partition. Only the owner, in a batch, ends or moves what waits.
//!
//! The table is empty most of the time and fills within seconds, and then its statistics say of thousands of rows that
//! there is one. So no statement leaves the planner a choice that is wrong by more than a reading of the table: what is
//! changed is chosen once, in an array, not by a join ([`super::write`] likewise), and each question has one index that can
//! be used (migrations/0010 and 0011).

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::{Rank, Why};
use uuid::Uuid;

use super::Key;
use super::error::Error;
use super::firsts::firsts;
use super::keyed::{Epoch, keyed};
use super::listen::CHANNEL;
use super::millis::Millis;
use super::pool::Store;
use super::row::task_id;
use super::schema::Statement;
use super::session::Session;

/// What [`wakeup`] reads.
macro_rules! columns {
    () => {
        "id, kind, task_id, name, route, due, counts_from, sequence, place, why, attempt, tries, since, since_worked, \
         reason, given_up_by, cause"
    };
}
pub(super) use columns;

/// For a batch: what still counts of what it takes. A message may be taken before its time, behind an earlier one.
pub(super) const LOCK: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM taskhost.wakeups
     WHERE group_id = $1 AND topic = $2 AND partition = $3 AND id = ANY ($4) AND (kind <> 'timer' OR due <= $5)
     ORDER BY id FOR UPDATE"
);

/// Only the first message of a task in each partition, and only what the plugin deferred: the task's change says nothing
/// of a slow machine or of a plugin on probation. Whether the attempt counts stays as it is. A row that a batch holds is
/// left out: that batch looks itself when it is done.
const WAKE: &str = concat!(
    "WITH RECURSIVE ",
    firsts!(),
    " UPDATE taskhost.wakeups
     SET due = CASE WHEN why IN ('deferral', 'task-missing') AND due > $2 THEN $2 ELSE due END
     WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM taskhost.wakeups
        WHERE ctid = ANY (ARRAY(
            SELECT at FROM firsts WHERE why IN ('deferral', 'task-missing') AND due > $2))
        FOR UPDATE SKIP LOCKED))
     RETURNING group_id, topic, partition"
);

/// What is held on a route whose probation is over; its next attempt counts. A row that a batch holds is left out: its due
/// time stands behind it.
const RELEASE_HELD: &str = "
UPDATE taskhost.wakeups SET due = $3, counts_from = LEAST(counts_from, $3)
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM taskhost.wakeups
    WHERE group_id = $1 AND route = $2 AND why = 'held' AND due > $3
    FOR UPDATE SKIP LOCKED))
RETURNING group_id, topic, partition";

/// A row that a batch holds is left out: it is being replaced or cancelled.
const STRAND: &str = "
UPDATE taskhost.wakeups SET due = CASE WHEN due IS NOT NULL OR kind = 'replay' THEN $7 END, why = 'stranded',
    reason = ($6::text[])[array_position($5::uuid[], id)]
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM taskhost.wakeups
    WHERE group_id = $1 AND topic = $2 AND partition = $3 AND id = ANY ($5) AND EXISTS (
        SELECT FROM taskhost.progress p
        WHERE (p.group_id, p.topic, p.partition) = ($1, $2, $3) AND p.epoch = $4)
    FOR UPDATE SKIP LOCKED))";

/// Two counts, as each has an index.
pub(super) const COUNT_WAITING: &str = "
SELECT (SELECT count(*) FROM taskhost.wakeups
        WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind = 'deferred' AND why <> 'task-missing')
     + (SELECT count(*) FROM taskhost.wakeups
        WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind = 'deferred' AND why = 'task-missing') AS waiting";

/// When a partition has something to decide besides records: replays at once, whatever the clocks of this host and of who
/// asked for them say. With the first by its order rather than any, it is a look into the index also for a plan that takes
/// replays for most of the table.
macro_rules! next_due {
    () => {
        "CASE WHEN (
            SELECT sequence FROM taskhost.wakeups
            WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind = 'replay' AND due IS NULL
            ORDER BY sequence, place LIMIT 1
         ) IS NOT NULL THEN 'epoch'::timestamptz ELSE (
            SELECT min(due) FROM taskhost.wakeups
            WHERE group_id = $1 AND topic = $2 AND partition = $3 AND due IS NOT NULL
         ) END AS due"
    };
}

const NEXT_DUE: &str = concat!("SELECT ", next_due!());

const OUTLOOK: &str = concat!(
    "SELECT epoch <> $4 AND owners <@ $5::text[] AS moved, ",
    next_due!(),
    " FROM taskhost.progress WHERE group_id = $1 AND topic = $2 AND partition = $3"
);

impl Store {
    /// When the next wakeup or replay of a partition is due, which may be past; none if there is none.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn next_due(&self, key: &Key) -> Result<Option<i64>, Error> {
        let row = self.read_row(keyed(NEXT_DUE, key)).await?;
        let due: Option<Millis> = match row {
            Some(row) => row.try_get("due")?,
            None => None,
        };
        Ok(due.map(|due| due.0))
    }

    /// [`Store::next_due`] for the owner's regular look, which finds out at the same time whether a person's command
    /// moved the partition. A claim of another host doesn't count: who lost the partition learns that from Kafka.
    ///
    /// # Errors
    /// [`Error::Lost`] if a command moved it.
    pub async fn next_due_of_own(
        &self,
        key: &Key,
        epoch: Epoch,
        own_ids: &[String],
    ) -> Result<Option<i64>, Error> {
        let mut session = Session::look(self).await?;
        let statement = keyed(OUTLOOK, key).bind(epoch).bind(own_ids);
        let row = session.row(statement).await?;
        session.rollback().await;
        let Some(row) = row else {
            return Ok(None);
        };
        match row.try_get("moved")? {
            true => Err(Error::Lost),
            false => {
                let due: Option<Millis> = row.try_get("due")?;
                Ok(due.map(|due| due.0))
            }
        }
    }

    /// Puts wakeups off that the owner can't decide, each with the reason, until `due`.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn strand(
        &self,
        key: &Key,
        epoch: Epoch,
        rows: &[(Uuid, &str)],
        due: i64,
    ) -> Result<u64, Error> {
        let (ids, reasons): (Vec<Uuid>, Vec<&str>) = rows.iter().copied().unzip();
        let statement = keyed(STRAND, key).bind(epoch).bind(ids).bind(reasons);
        let mut session = Session::begin(self).await?;
        let stranded = session.execute(statement.bind(Millis(due))).await?;
        session.commit_or_repeat().await?;
        Ok(stranded)
    }

    /// How many wakeups of a partition its owner couldn't decide, and the reason of one of them.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn count_stranded(&self, key: &Key) -> Result<(i64, Option<String>), Error> {
        let sql = "SELECT count(*) AS stranded, min(reason) AS reason FROM taskhost.wakeups
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 AND why = 'stranded'";
        let row = self.read_row(keyed(sql, key)).await?;
        row.map_or(Ok((0, None)), |row| {
            Ok((row.try_get("stranded")?, row.try_get("reason")?))
        })
    }

    /// How many messages of a partition wait.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn count_waiting(&self, key: &Key) -> Result<i64, Error> {
        let row = self.read_row(keyed(COUNT_WAITING, key)).await?;
        row.map_or(Ok(0), |row| Ok(row.try_get("waiting")?))
    }

    /// After a commit that created or changed tasks: makes the first that waits for each of them due at `now`, in whichever
    /// partition, and says in which. Poke the local ones, [`Store::notify`] the others. A hint only: the due
    /// time is the guarantee.
    ///
    /// # Errors
    /// Trouble only, and then nothing is lost but time.
    pub async fn wake_tasks(&self, tasks: &[TaskId], now: i64) -> Result<Vec<Key>, Error> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&str> = tasks.iter().map(TaskId::as_str).collect();
        self.wake(sqlx::query(WAKE).bind(ids).bind(Millis(now)))
            .await
    }

    /// After the end of a route's probation, whichever way: makes what was held on it due at `now`, in whichever
    /// partition of the group, and says in which. Poke the local ones, [`Store::notify`] the others. A hint only: what
    /// is held has a due time, too.
    ///
    /// # Errors
    /// Trouble only, and then nothing is lost but time.
    pub async fn release_held(
        &self,
        group: &str,
        route: &str,
        now: i64,
    ) -> Result<Vec<Key>, Error> {
        let statement = sqlx::query(RELEASE_HELD).bind(group).bind(route);
        self.wake(statement.bind(Millis(now))).await
    }

    /// Runs a statement that makes wakeups due, and says whose.
    pub(super) async fn wake(&self, statement: Statement<'_>) -> Result<Vec<Key>, Error> {
        let mut session = Session::begin(self).await?;
        let rows = session.rows(statement).await?;
        session.commit_or_repeat().await?;
        owners(&rows)
    }

    /// After a commit that deferred: those of the tasks that changed since they were read, each given with
    /// the version it was decided on (0 if it did not exist). Their change may have missed the message that
    /// now waits, so wake them.
    ///
    /// # Errors
    /// Trouble only, and then nothing is lost but time.
    pub async fn changed(&self, tasks: &[(TaskId, i64)]) -> Result<Vec<TaskId>, Error> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let (ids, versions): (Vec<&str>, Vec<i64>) = tasks
            .iter()
            .map(|(id, version)| (id.as_str(), *version))
            .unzip();
        let sql = "SELECT tasks.id FROM unnest($1::text[], $2::bigint[]) AS seen (id, version)
                   JOIN taskhost.tasks ON tasks.id = seen.id AND tasks.version > seen.version";
        let rows = self
            .read_rows(sqlx::query(sql).bind(ids).bind(versions))
            .await?;
        rows.iter().map(|row| task_id(row, "id")).collect()
    }

    /// Tells the hosts that listen which partitions have something due. Never called within a batch: it takes a
    /// lock that all of them would wait for.
    ///
    /// # Errors
    /// Trouble only, and then nothing is lost but time.
    pub async fn notify(&self, keys: &[Key]) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let payloads: Vec<String> = keys.iter().map(super::listen::payload).collect();
        let sql = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) payload";
        let mut session = Session::begin(self).await?;
        session
            .execute(sqlx::query(sql).bind(CHANNEL).bind(payloads))
            .await?;
        session.commit_or_repeat().await
    }
}

/// A wakeup of a row.
pub(super) fn wakeup(row: &PgRow) -> Result<Wakeup, Error> {
    let time = |column| row.try_get::<Option<Millis>, _>(column);
    let since: Millis = row.try_get("since")?;
    Ok(Wakeup {
        id: row.try_get("id")?,
        kind: kind(row)?,
        task_id: task_id(row, "task_id")?,
        name: row.try_get("name")?,
        route: row.try_get("route")?,
        due: time("due")?.map(|due| due.0),
        counts_from: time("counts_from")?.map(|time| time.0),
        rank: Rank {
            sequence: row.try_get("sequence")?,
            place: row.try_get("place")?,
        },
        why: why(row.try_get("why")?)?,
        attempt: row.try_get("attempt")?,
        tries: row.try_get("tries")?,
        since: since.0,
        since_worked: row.try_get("since_worked")?,
        given_up_by: row.try_get("given_up_by")?,
        reason: row.try_get("reason")?,
        cause: row.try_get("cause")?,
    })
}

/// What the wakeup of a row is for.
pub(super) fn kind(row: &PgRow) -> Result<WakeupKind, Error> {
    WakeupKind::from_name(row.try_get("kind")?).ok_or_else(unknown)
}

/// Why a wakeup waits, from its name.
pub(super) fn why(name: &str) -> Result<Why, Error> {
    Why::from_name(name).ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::Unreadable(sqlx::Error::Decode("unknown kind of wakeup".into()))
}

/// The partitions that rows are of, each once.
pub(super) fn owners(rows: &[PgRow]) -> Result<Vec<Key>, Error> {
    let mut owners = rows.iter().map(owner).collect::<Result<Vec<_>, _>>()?;
    owners.sort_unstable();
    owners.dedup();
    Ok(owners)
}

fn owner(row: &PgRow) -> Result<Key, Error> {
    let (group, topic): (&str, &str) = (row.try_get("group_id")?, row.try_get("topic")?);
    let partition = taskhost_core::record::TopicPartition::new(topic, row.try_get("partition")?);
    Ok(Key::new(group, partition))
}
