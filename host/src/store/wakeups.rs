//! Wakeups outside of a batch: which are due, and hints to look at them sooner.
//!
//! Of the messages of a task that wait in a partition only the first has a due time; when it is due, all of
//! them are taken, in order. A timer has its own time, and its own turn.
//!
//! The table is empty most of the time and fills within seconds, and then its statistics say of thousands of rows that
//! there is one. So no statement leaves the planner a choice that is wrong by more than a reading of the table: what is
//! changed is chosen once, in an array, not by a join ([`super::write`] likewise), and each question has one index that can
//! be used (migrations/0010).

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::Why;
use uuid::Uuid;

use super::Key;
use super::batch::task_id;
use super::error::Error;
use super::listen::CHANNEL;
use super::millis::Millis;
use super::pool::Store;
use super::progress::{Epoch, keyed};
use super::session::{Session, Statement};

/// For a batch: what still counts of what was due.
pub(super) const LOCK: &str = "
SELECT id, kind, task_id, name, route, due, sequence, why, attempt, tries, since, since_worked, reason, cause
FROM wakeups
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND id = ANY ($4) AND (due IS NULL OR due <= $5)
ORDER BY id FOR UPDATE";

/// One turn for each task: its chain of messages if that is due, else its earliest timer.
const DUE: &str = "
WITH heads AS (
    SELECT id, kind, task_id, due FROM wakeups
    WHERE group_id = $1 AND topic = $2 AND partition = $3 AND due <= $4 AND kind <> 'replay'
    ORDER BY due, id LIMIT $5
), turns AS (
    SELECT DISTINCT ON (task_id) id, kind, task_id, due FROM heads
    ORDER BY task_id, kind = 'deferred' DESC, due, id
)
SELECT w.id, w.kind, w.task_id, w.name, w.route, w.due, w.sequence, w.why, w.attempt, w.tries, w.since, w.since_worked,
    w.reason, w.cause
FROM turns
CROSS JOIN LATERAL (
    (SELECT * FROM wakeups timer
     WHERE turns.kind = 'timer' AND timer.group_id = $1 AND timer.id = turns.id)
    UNION ALL
    (SELECT * FROM wakeups chain
     WHERE turns.kind = 'deferred' AND chain.kind = 'deferred'
       AND chain.group_id = $1 AND chain.topic = $2 AND chain.partition = $3 AND chain.task_id = turns.task_id
     ORDER BY chain.sequence, chain.place LIMIT $5)
) AS w
ORDER BY turns.due, turns.id, w.sequence, w.place LIMIT $5";

/// Only what the plugin deferred: the task's change says nothing of a slow machine or of a plugin on probation. A row that
/// a batch holds is left out: that batch looks itself when it is done.
const WAKE: &str = "
UPDATE wakeups SET due = $2
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM wakeups
    WHERE task_id = ANY ($1) AND kind = 'deferred' AND why = 'deferral' AND due > $2
    FOR UPDATE SKIP LOCKED))
RETURNING group_id, topic, partition";

/// What is held on a route whose probation is over. A row that a batch holds is left out: its due time stands behind it.
const RELEASE_HELD: &str = "
UPDATE wakeups SET due = $3
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM wakeups
    WHERE group_id = $1 AND route = $2 AND why = 'held' AND due > $3
    FOR UPDATE SKIP LOCKED))
RETURNING group_id, topic, partition";

/// A row that a batch holds is left out: it is being replaced or cancelled.
const STRAND: &str = "
UPDATE wakeups SET due = CASE WHEN due IS NOT NULL OR kind = 'replay' THEN $7 END, why = 'stranded',
    reason = ($6::text[])[array_position($5::uuid[], id)]
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM wakeups
    WHERE group_id = $1 AND topic = $2 AND partition = $3 AND id = ANY ($5) AND EXISTS (
        SELECT FROM progress p
        WHERE (p.group_id, p.topic, p.partition) = ($1, $2, $3) AND p.epoch = $4)
    FOR UPDATE SKIP LOCKED))";

/// When a partition has something to decide besides records: replays at once, whatever the clocks of this host and of who
/// asked for them say. With the first by its order rather than any, it is a look into the index also for a plan that takes
/// replays for most of the table.
macro_rules! next_due {
    () => {
        "CASE WHEN (
            SELECT place FROM wakeups
            WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind = 'replay' AND due IS NULL
            ORDER BY place LIMIT 1
         ) IS NOT NULL THEN 'epoch'::timestamptz ELSE (
            SELECT min(due) FROM wakeups
            WHERE group_id = $1 AND topic = $2 AND partition = $3 AND due IS NOT NULL
         ) END AS due"
    };
}

const NEXT_DUE: &str = concat!("SELECT ", next_due!());

const OUTLOOK: &str = concat!(
    "SELECT epoch <> $4 AND owners <@ $5::text[] AS moved, ",
    next_due!(),
    " FROM progress WHERE group_id = $1 AND topic = $2 AND partition = $3"
);

impl Store {
    /// What is due in a partition at `now`, at most `limit` (at least 1) wakeups: for each task whose first waiting
    /// message is due all that wait behind it too, in order, or else one timer. Never both for one task.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn due(&self, key: &Key, now: i64, limit: u32) -> Result<Vec<Wakeup>, Error> {
        let statement = keyed(DUE, key).bind(Millis(now)).bind(i64::from(limit));
        let rows = self.read_rows(statement).await?;
        rows.iter().map(wakeup).collect()
    }

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
        let sql = "SELECT count(*) AS stranded, min(reason) AS reason FROM wakeups
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
        let sql = "SELECT count(*) AS waiting FROM wakeups
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind = 'deferred'";
        let row = self.read_row(keyed(sql, key)).await?;
        row.map_or(Ok(0), |row| Ok(row.try_get("waiting")?))
    }

    /// After a commit that created or changed tasks: makes what waits for them due at `now`, in whichever
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
    async fn wake(&self, statement: Statement<'_>) -> Result<Vec<Key>, Error> {
        let mut session = Session::begin(self).await?;
        let rows = session.rows(statement).await?;
        session.commit_or_repeat().await?;
        let mut owners = rows.iter().map(owner).collect::<Result<Vec<_>, _>>()?;
        owners.sort_unstable();
        owners.dedup();
        Ok(owners)
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
                   JOIN tasks ON tasks.id = seen.id AND tasks.version > seen.version";
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
    let kind: &str = row.try_get("kind")?;
    let due: Option<Millis> = row.try_get("due")?;
    let since: Millis = row.try_get("since")?;
    Ok(Wakeup {
        id: row.try_get("id")?,
        kind: WakeupKind::from_name(kind).ok_or_else(unknown)?,
        task_id: task_id(row, "task_id")?,
        name: row.try_get("name")?,
        route: row.try_get("route")?,
        due: due.map(|due| due.0),
        sequence: row.try_get("sequence")?,
        why: why(row.try_get("why")?)?,
        attempt: row.try_get("attempt")?,
        tries: row.try_get("tries")?,
        since: since.0,
        since_worked: row.try_get("since_worked")?,
        reason: row.try_get("reason")?,
        cause: row.try_get("cause")?,
    })
}

/// Why a wakeup waits, from its name.
pub(super) fn why(name: &str) -> Result<Why, Error> {
    Why::from_name(name).ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::Unreadable(sqlx::Error::Decode("unknown kind of wakeup".into()))
}

fn owner(row: &PgRow) -> Result<Key, Error> {
    let (group, topic): (&str, &str) = (row.try_get("group_id")?, row.try_get("topic")?);
    let partition = taskhost_core::record::TopicPartition::new(topic, row.try_get("partition")?);
    Ok(Key::new(group, partition))
}
