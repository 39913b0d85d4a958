//! What waits, as people look at it, and what they ask of it: a try at once, or that it is given up.
//!
//! Nothing here ends or moves what waits. A row is marked, or becomes due; its owner does the rest in a batch.

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::record::TopicPartition;
use taskhost_core::waiting::Why;
use uuid::Uuid;

use super::Key;
use super::error::Error;
use super::millis::Millis;
use super::pages::{Pages, cursor};
use super::pool::Store;
use super::schema::Statement;
use super::session::Session;
use super::wakeups::{columns, wakeup};

/// Which waiting causes to list. Replays of dead letters that no batch has taken yet are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingFilter {
    /// Only of this topic, by its name in Kafka.
    pub topic: Option<String>,
    /// Only of this partition.
    pub partition: Option<i32>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only what waits for one of these; all of it if there is none.
    pub whys: Vec<Why>,
    /// Only messages, or only timers.
    pub kind: Option<WakeupKind>,
    /// At most so many.
    pub limit: u32,
}

/// A waiting cause, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRow {
    /// The partition that decides it.
    pub partition: TopicPartition,
    /// The row, without its cause.
    pub wakeup: Wakeup,
}

/// What became of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ordered {
    /// The rows that it reached.
    pub ids: Vec<Uuid>,
    /// Their partitions, to be told of it.
    pub keys: Vec<Key>,
}

const LIST: &str = concat!(
    cursor!(),
    "SELECT topic, partition, ",
    columns!(),
    " FROM (
        SELECT topic, partition, id, kind, task_id, name, route, due, counts_from, sequence, place, why, attempt, tries, since,
            since_worked, reason, given_up_by, ''::bytea AS cause
        FROM taskhost.wakeups
        WHERE group_id = $1 AND kind IN ('deferred', 'timer')
          AND ($2::text IS NULL OR topic = $2) AND ($3::int IS NULL OR partition = $3)
          AND ($4::text IS NULL OR task_id = $4)
          AND (cardinality($5::text[]) = 0 OR kind = 'deferred' AND why = ANY ($5))
          AND ($6::text IS NULL OR kind = $6)
     ) AS rows
     ORDER BY topic, partition, task_id, kind, sequence, place, name LIMIT $7"
);

/// One that has a time becomes due. Of a deferral the attempt counts only from its own time on. Timers fire at their time.
const RETRY: &str = "
UPDATE taskhost.wakeups SET due = CASE WHEN due > $3 THEN $3 ELSE due END
WHERE group_id = $1 AND id = ANY ($2) AND kind = 'deferred' AND due IS NOT NULL
RETURNING id, topic, partition";

/// One that waits for its turn stays there: it is given up when its turn comes.
const GIVE_UP: &str = "
UPDATE taskhost.wakeups SET due = CASE WHEN due > $3 THEN $3 ELSE due END, given_up_by = $4
WHERE group_id = $1 AND id = ANY ($2) AND kind IN ('deferred', 'timer')
RETURNING id, topic, partition";

impl Store {
    /// Begins to list what waits, task by task in the order in which it is decided. Reads the whole table, unless a task is
    /// named.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn waiting_pages(
        &self,
        group: &str,
        filter: &WaitingFilter,
    ) -> Result<Pages<WaitingRow>, Error> {
        let whys: Vec<&str> = filter.whys.iter().map(|why| why.name()).collect();
        let statement = sqlx::query(LIST)
            .bind(group)
            .bind(filter.topic.as_deref())
            .bind(filter.partition)
            .bind(filter.task.as_deref())
            .bind(whys)
            .bind(filter.kind.map(WakeupKind::name))
            .bind(i64::from(filter.limit));
        Pages::open(self, statement, waiting_row).await
    }

    /// Makes waiting messages due now, those that don't wait for their turn. Tell their partitions by [`Store::notify`].
    ///
    /// # Errors
    /// Trouble only.
    pub async fn retry_waiting(
        &self,
        group: &str,
        ids: &[Uuid],
        now: i64,
    ) -> Result<Ordered, Error> {
        let statement = sqlx::query(RETRY).bind(group).bind(ids);
        self.order(group, statement.bind(Millis(now))).await
    }

    /// Gives up messages and timers that wait: their owner makes dead letters of them. Tell their partitions by
    /// [`Store::notify`].
    ///
    /// # Errors
    /// Trouble only.
    pub async fn give_up_waiting(
        &self,
        group: &str,
        ids: &[Uuid],
        by: &str,
        now: i64,
    ) -> Result<Ordered, Error> {
        let statement = sqlx::query(GIVE_UP).bind(group).bind(ids);
        self.order(group, statement.bind(Millis(now)).bind(by))
            .await
    }

    async fn order(&self, group: &str, statement: Statement<'_>) -> Result<Ordered, Error> {
        let mut session = Session::begin(self).await?;
        let rows = session.rows(statement).await?;
        session.commit_or_repeat().await?;
        let mut ordered = Ordered::default();
        for row in &rows {
            ordered.ids.push(row.try_get("id")?);
            ordered.keys.push(Key::new(group, partition(row)?));
        }
        ordered.keys.sort_unstable();
        ordered.keys.dedup();
        Ok(ordered)
    }
}

fn waiting_row(row: &PgRow) -> Result<WaitingRow, Error> {
    Ok(WaitingRow {
        partition: partition(row)?,
        wakeup: wakeup(row)?,
    })
}

fn partition(row: &PgRow) -> Result<TopicPartition, Error> {
    let topic: &str = row.try_get("topic")?;
    Ok(TopicPartition::new(topic, row.try_get("partition")?))
}
