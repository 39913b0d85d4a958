//! Whose turn it is: the first message of a task in a partition that isn't free is made due.
//!
//! It gets its turn if no dead letter before it holds the task, and if it has no time of its own or waited for the task,
//! which exists now. A batch does this last, with the rows as it leaves them. A command that lets go of a dead letter does
//! it in its transaction, and locks the partition's progress before, as a batch does: so neither misses the other. What
//! happens to the task elsewhere is a hint that is given after the commit.

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::record::TopicPartition;
use taskhost_core::task::TaskId;
use uuid::Uuid;

use super::Key;
use super::error::Error;
use super::firsts::firsts;
use super::keyed::keyed;
use super::millis::Millis;
use super::open::Batch;
use super::pool::Store;
use super::row::task_id;
use super::session::Session;
use super::waiting::{asked, first_letter, head, rows_where};

/// Tasks that one statement looks at, when all of a partition are.
const TASKS_MAX: u32 = 2_000;

/// Of each of `asked` the message that gets its turn at a time.
macro_rules! turns {
    ($now:literal) => {
        concat!(
            "heads AS (
                SELECT asked.*, head.id, head.at, head.sequence, head.place
                FROM asked CROSS JOIN LATERAL ",
            head!(),
            " AS head
                WHERE head.due IS NULL OR head.why = 'task-missing' AND head.due > ",
            $now,
            "), turns AS (
                SELECT id, at FROM heads AS asked
                WHERE NOT EXISTS (
                    SELECT FROM ((",
            first_letter!("<>", ""),
            ") UNION ALL (SELECT * FROM (",
            first_letter!("=", ""),
            ") AS missing WHERE asked.is_there)) AS letter
                    WHERE (letter.sequence, 0) < (asked.sequence, asked.place)))"
        )
    };
}

/// At the time of the database's clock, if none is given.
const SETTLE: &str = concat!(
    "WITH ",
    asked!(),
    ", ",
    turns!("COALESCE($5, now())"),
    " UPDATE taskhost.wakeups SET due = COALESCE($5, now()) WHERE group_id = $1 AND id = ANY (ARRAY(SELECT id FROM turns))"
);

/// A row that a batch holds is left out: that batch settles the task itself.
const SETTLE_TASKS: &str = concat!(
    "WITH RECURSIVE ",
    firsts!(),
    ", asked AS MATERIALIZED (
        SELECT group_id, topic, partition, task_id,
            (SELECT id FROM taskhost.tasks WHERE id = firsts.task_id LIMIT 1) IS NOT NULL AS is_there
        FROM firsts), ",
    turns!("$2"),
    " UPDATE taskhost.wakeups
     SET due = CASE WHEN due IS NULL OR why = 'task-missing' AND due > $2 THEN $2 ELSE due END
     WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM taskhost.wakeups WHERE ctid = ANY (ARRAY(SELECT at FROM turns)) FOR UPDATE SKIP LOCKED))
     RETURNING group_id, topic, partition"
);

/// The tasks of which something waits that blocks, in order, behind `$4`: the first of each. Whether it has no time.
const BLOCKED: &str = "
WITH RECURSIVE firsts AS (
    (SELECT task_id, due FROM taskhost.wakeups
     WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind = 'deferred' AND why <> 'task-missing'
       AND task_id > $4
     ORDER BY task_id, sequence, place LIMIT 1)
    UNION ALL
    SELECT next.* FROM firsts CROSS JOIN LATERAL (
        SELECT task_id, due FROM taskhost.wakeups
        WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind = 'deferred' AND why <> 'task-missing'
          AND task_id > firsts.task_id
        ORDER BY task_id, sequence, place LIMIT 1
    ) AS next
)
SELECT task_id, due IS NULL AS has_no_time FROM firsts LIMIT $5";

/// The partitions of dead letters that hold something, in the order of locks.
const LOCK_OWNERS: &str = "
SELECT topic, partition FROM taskhost.progress
WHERE group_id = $1 AND (topic, partition) IN (
    SELECT topic, partition FROM taskhost.dead_letters WHERE group_id = $1 AND id = ANY ($2) AND holds)
ORDER BY topic, partition FOR UPDATE";

const LETTERS: &str = "
SELECT topic, partition, task_id FROM taskhost.dead_letters
WHERE group_id = $1 AND id = ANY ($2) AND holds AND task_id IS NOT NULL
ORDER BY topic, partition";

/// In a batch.
pub(super) async fn batch<'a>(
    batch: &mut Batch,
    tasks: impl IntoIterator<Item = &'a TaskId>,
    now: i64,
) -> Result<(), Error> {
    let ids: Vec<&str> = tasks.into_iter().map(TaskId::as_str).collect();
    settle(&mut batch.session, &batch.key, &ids, Some(now)).await?;
    Ok(())
}

async fn settle(
    session: &mut Session,
    key: &Key,
    tasks: &[&str],
    now: Option<i64>,
) -> Result<u64, Error> {
    if tasks.is_empty() {
        return Ok(0);
    }
    let statement = keyed(SETTLE, key).bind(tasks).bind(now.map(Millis));
    session.execute(statement).await
}

/// For a command on dead letters, before it changes any of them: no batch of the partitions whose tasks they hold is open
/// from here to the end of the transaction.
pub(super) async fn lock_owners(
    session: &mut Session,
    group: &str,
    ids: &[Uuid],
) -> Result<(), Error> {
    let statement = sqlx::query(LOCK_OWNERS).bind(group).bind(ids);
    session.rows(statement).await?;
    Ok(())
}

/// For a command on dead letters, after it changed them: what they held gets its turn. Says in which partitions.
pub(super) async fn letters(
    session: &mut Session,
    group: &str,
    ids: &[Uuid],
) -> Result<Vec<Key>, Error> {
    let statement = sqlx::query(LETTERS).bind(group).bind(ids);
    let rows = session.rows(statement).await?;
    let mut keys = Vec::new();
    for some in rows.chunk_by(|a, b| owner(group, a).ok() == owner(group, b).ok()) {
        let key = owner(group, &some[0])?;
        let tasks = some.iter().map(|row| Ok(row.try_get("task_id")?));
        let tasks: Vec<&str> = tasks.collect::<Result<_, Error>>()?;
        if settle(session, &key, &tasks, None).await? > 0 {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn owner(group: &str, row: &PgRow) -> Result<Key, Error> {
    let topic: &str = row.try_get("topic")?;
    let partition = TopicPartition::new(topic, row.try_get("partition")?);
    Ok(Key::new(group, partition))
}

impl Store {
    /// After a commit: gives the first message of each of the tasks its turn at `now`, in whichever partition, and says in
    /// which. Poke the local ones, [`Store::notify`] the others. What a batch holds at the time is left to that batch.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn settle_tasks(&self, tasks: &[TaskId], now: i64) -> Result<Vec<Key>, Error> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&str> = tasks.iter().map(TaskId::as_str).collect();
        let statement = sqlx::query(SETTLE_TASKS).bind(ids).bind(Millis(now));
        self.wake(statement).await
    }

    /// For a claim: gives each first message of the partition its turn that has no time although nothing is before it. Says
    /// how many there were.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn settle_chains(&self, key: &Key, now: i64) -> Result<u64, Error> {
        let (mut behind, mut settled) = (String::new(), 0);
        loop {
            let mut session = Session::begin(self).await?;
            let statement = keyed(BLOCKED, key).bind(&behind).bind(i64::from(TASKS_MAX));
            let rows = session.rows(statement).await?;
            let mut tasks = Vec::new();
            for row in &rows {
                if row.try_get("has_no_time")? {
                    tasks.push(row.try_get("task_id")?);
                }
            }
            settled += settle(&mut session, key, &tasks, Some(now)).await?;
            session.commit_or_repeat().await?;
            match rows.last() {
                Some(last) if rows.len() >= TASKS_MAX as usize => {
                    behind = task_id(last, "task_id")?.to_string();
                }
                _ => return Ok(settled),
            }
        }
    }
}
