//! The list of tasks, however long: read page by page, so that memory holds one page.

use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::task::TaskId;

use super::error::Error;
use super::millis::Millis;
use super::pool::Store;
use super::row::task_id;
use super::session::Session;
use super::tasks::TaskFilter;

/// How long whoever reads may look at a page. While it does, an old snapshot stays open.
const PAUSE_MAX: &str = "10min";

const OPEN: &str = "
DECLARE taskhost_tasks NO SCROLL CURSOR FOR
SELECT id, type, status, version, created_at, updated_at FROM taskhost.tasks
WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR type = $2)
ORDER BY updated_at DESC, id LIMIT $3";

/// 1,000 rows of about 150 bytes: a page is written faster than it is read.
const NEXT: &str = "FETCH 1000 FROM taskhost_tasks";

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

/// Tasks as they were at one moment, the last changed first.
#[derive(Debug)]
pub struct TaskPages {
    session: Session,
}

impl Store {
    /// Begins to list tasks. Reads the whole table, as [`Store::list_tasks`] does.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn task_pages(&self, filter: &TaskFilter) -> Result<TaskPages, Error> {
        let mut session = Session::begin(self).await?;
        let pause = "SELECT set_config('idle_in_transaction_session_timeout', $1, true)";
        session.execute(sqlx::query(pause).bind(PAUSE_MAX)).await?;
        let open = sqlx::query(OPEN)
            .bind(filter.status.as_deref())
            .bind(filter.kind.as_deref())
            .bind(i64::from(filter.limit));
        session.execute(open).await?;
        Ok(TaskPages { session })
    }
}

impl TaskPages {
    /// The next tasks; empty at the end.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn next(&mut self) -> Result<Vec<TaskRow>, Error> {
        let rows = self.session.rows(sqlx::query(NEXT)).await?;
        rows.iter().map(task_row).collect()
    }

    /// Gives the connection back.
    pub async fn close(self) {
        self.session.rollback().await;
    }
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
