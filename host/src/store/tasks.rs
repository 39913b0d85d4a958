//! Tasks and their history, as people look at them.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::record::TopicPartition;
use taskhost_core::task::{Basis, PluginVersion, RecordedDecider, Task, TaskEvent, TaskId};

use super::error::Error;
use super::millis::Millis;
use super::pages::{Pages, cursor};
use super::pool::Store;
use super::row::{task, task_id};
use super::session::Session;

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only of this status.
    pub status: Option<String>,
    /// Only of this type.
    pub kind: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// A task event, and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The event.
    pub event: TaskEvent,
    /// When its batch began to be written, in milliseconds since 1970, by the database's clock.
    pub stored_at: i64,
}

/// A task without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// Its id.
    pub id: TaskId,
    /// Its type.
    pub kind: Arc<str>,
    /// Its status.
    pub status: Arc<str>,
    /// Number of its last transition.
    pub version: i64,
    /// Time of the cause that created it, in milliseconds since 1970.
    pub created_at: i64,
    /// Time of the cause of its last transition, in milliseconds since 1970.
    pub updated_at: i64,
}

/// How many tasks of a type are in a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusCount {
    /// The type.
    pub kind: String,
    /// The status.
    pub status: String,
    /// How many.
    pub tasks: i64,
}

const LIST: &str = "
SELECT id, type, status, data::text AS data, version, created_at, updated_at FROM taskhost.tasks
WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR type = $2)
ORDER BY updated_at DESC, id LIMIT $3";

const PAGES: &str = concat!(
    cursor!(),
    "SELECT id, type, status, version, created_at, updated_at FROM taskhost.tasks
     WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR type = $2)
     ORDER BY updated_at DESC, id LIMIT $3"
);

const TASK: &str = "
SELECT id, type, status, data::text AS data, version, created_at, updated_at FROM taskhost.tasks WHERE id = $1";

/// By the hash of the id, which is what the index has.
const EVENTS: &str = "
SELECT e.task_id, e.version, e.number, e.kind, e.from_status, e.to_status, e.data::text AS data, e.at,
       e.cause_topic, e.cause_partition, e.cause_offset, e.cause, e.trace_id, e.foreign_trace_id, e.stored_at,
       coalesce(d.plugin_name, e.earlier_plugin_name) AS plugin_name,
       coalesce(d.plugin_version, e.earlier_plugin_version) AS plugin_version,
       coalesce(d.plugin_digest, e.earlier_plugin_digest) AS plugin_digest,
       e.attempt, e.seed, d.route, d.activation, d.config, d.interface, d.topics::text AS topics
FROM taskhost.task_events e LEFT JOIN taskhost.deciders d ON d.number = e.decider
WHERE hashtextextended(e.task_id, 0) = hashtextextended($1, 0) AND e.task_id = $1
ORDER BY e.version, e.number";

const COUNTS: &str = "
SELECT type, status, count(*) AS tasks FROM taskhost.tasks GROUP BY type, status ORDER BY type, status";

impl Store {
    /// Tasks, the last changed first. Reads the whole table: an index on a column that each transition
    /// changes would double the cost of all transitions.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        let statement = sqlx::query(LIST)
            .bind(filter.status.as_deref())
            .bind(filter.kind.as_deref())
            .bind(i64::from(filter.limit));
        let rows = self.read_rows(statement).await?;
        rows.iter().map(task).collect()
    }

    /// Begins to list tasks. Reads the whole table, as [`Store::list_tasks`] does.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn task_pages(&self, filter: &TaskFilter) -> Result<Pages<TaskRow>, Error> {
        let statement = sqlx::query(PAGES)
            .bind(filter.status.as_deref())
            .bind(filter.kind.as_deref())
            .bind(i64::from(filter.limit));
        Pages::open(self, statement, task_row).await
    }

    /// A task with its whole history, oldest event first; none if there is no such task.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn show_task(
        &self,
        id: &TaskId,
    ) -> Result<Option<(Task, Vec<RecordedEvent>)>, Error> {
        let mut session = Session::begin(self).await?;
        let row = session.row(sqlx::query(TASK).bind(id.as_str())).await?;
        let events = session.rows(sqlx::query(EVENTS).bind(id.as_str())).await?;
        session.rollback().await;
        let Some(row) = row else {
            return Ok(None);
        };
        let events = events.iter().map(event).collect::<Result<_, _>>()?;
        Ok(Some((task(&row)?, events)))
    }

    /// How many tasks of each type are in each status. Reads the whole table.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn count_tasks(&self) -> Result<Vec<StatusCount>, Error> {
        let rows = self.read_rows(sqlx::query(COUNTS)).await?;
        let count = |row: &PgRow| {
            Ok(StatusCount {
                kind: row.try_get("type")?,
                status: row.try_get("status")?,
                tasks: row.try_get("tasks")?,
            })
        };
        rows.iter().map(count).collect()
    }
}

fn event(row: &PgRow) -> Result<RecordedEvent, Error> {
    let (at, stored_at): (Millis, Millis) = (row.try_get("at")?, row.try_get("stored_at")?);
    let from: Option<&str> = row.try_get("from_status")?;
    let to: &str = row.try_get("to_status")?;
    let topic: &str = row.try_get("cause_topic")?;
    let cause: &[u8] = row.try_get("cause")?;
    // Not known if somebody removed the decider.
    let known = |column| {
        let text: Option<String> = row.try_get(column)?;
        Ok::<_, Error>(text.unwrap_or_else(|| "unknown".to_owned()))
    };
    let plugin = Arc::new(PluginVersion {
        name: known("plugin_name")?,
        version: known("plugin_version")?,
        digest: known("plugin_digest")?,
    });
    let event = TaskEvent {
        task_id: task_id(row, "task_id")?,
        version: row.try_get("version")?,
        number: row.try_get("number")?,
        kind: row.try_get("kind")?,
        from: from.map(Into::into),
        to: to.into(),
        data: row.try_get("data")?,
        at: at.0,
        cause: TopicPartition::new(topic, row.try_get("cause_partition")?)
            .at(row.try_get("cause_offset")?),
        cause_bytes: cause.into(),
        basis: basis(row, &plugin)?,
        plugin,
        trace_id: row.try_get("trace_id")?,
        foreign_trace_id: row.try_get("foreign_trace_id")?,
    };
    Ok(RecordedEvent {
        event,
        stored_at: stored_at.0,
    })
}

fn basis(row: &PgRow, plugin: &Arc<PluginVersion>) -> Result<Option<Basis>, Error> {
    let (Some(route), Some(seed)) = (
        row.try_get::<Option<&str>, _>("route")?,
        row.try_get("seed")?,
    ) else {
        return Ok(None);
    };
    let topics: BTreeMap<String, String> = serde_json::from_str(row.try_get("topics")?)
        .map_err(|error| Error::Unreadable(sqlx::Error::Decode(error.into())))?;
    let decider = RecordedDecider {
        route: route.into(),
        activation: row.try_get("activation")?,
        plugin: plugin.clone(),
        config: row.try_get::<&str, _>("config")?.into(),
        interface: row.try_get::<&str, _>("interface")?.into(),
        topics: Arc::new(topics),
    };
    Ok(Some(Basis {
        decider: Arc::new(decider),
        attempt: row.try_get("attempt")?,
        seed,
    }))
}

fn task_row(row: &PgRow) -> Result<TaskRow, Error> {
    let (kind, status): (&str, &str) = (row.try_get("type")?, row.try_get("status")?);
    let (created_at, updated_at): (Millis, Millis) =
        (row.try_get("created_at")?, row.try_get("updated_at")?);
    Ok(TaskRow {
        id: task_id(row, "id")?,
        kind: kind.into(),
        status: status.into(),
        version: row.try_get("version")?,
        created_at: created_at.0,
        updated_at: updated_at.0,
    })
}
