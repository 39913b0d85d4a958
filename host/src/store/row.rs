//! What several statements return: a task, a task's id, an activation.

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::task::{Task, TaskId};

use super::error::Error;
use super::millis::Millis;
use crate::plugin::Activation;

/// A task of a row.
pub(super) fn task(row: &PgRow) -> Result<Task, Error> {
    let text = |column| row.try_get::<&str, _>(column);
    let time = |column| row.try_get::<Millis, _>(column);
    Ok(Task {
        id: task_id(row, "id")?,
        kind: text("type")?.into(),
        status: text("status")?.into(),
        data: text("data")?.into(),
        version: row.try_get("version")?,
        created_at: time("created_at")?.0,
        updated_at: time("updated_at")?.0,
    })
}

/// A task's id of a row.
pub(super) fn task_id(row: &PgRow, column: &str) -> Result<TaskId, Error> {
    let text: &str = row.try_get(column)?;
    TaskId::new(text).map_err(|error| Error::Unreadable(sqlx::Error::Decode(error.into())))
}

/// An activation of a row.
pub(super) fn activation(row: &PgRow) -> Result<Activation, Error> {
    let since: Millis = row.try_get("since")?;
    let config: &str = row.try_get("config")?;
    Ok(Activation {
        route: row.try_get("route")?,
        number: row.try_get("number")?,
        digest: row.try_get("digest")?,
        config: config.into(),
        since: since.0,
        by: row.try_get("by")?,
        reason: row.try_get("reason")?,
        probation: row.try_get("probation")?,
        rollback_of: row.try_get("rollback_of")?,
    })
}
