//! Whether all that a round was decided on is still so: checked under locks, just before it is written.

use std::collections::{BTreeSet, HashMap};

use sqlx::Row;
use taskhost_core::batch::WriteSet;
use taskhost_core::task::TaskId;
use uuid::Uuid;

use super::batch::{Batch, task_id};
use super::error::Error;
use super::progress::keyed;

/// Those of the tasks that exist, locked in id order.
const LOCK_TASKS: &str =
    "SELECT id, version FROM taskhost.tasks WHERE id = ANY ($1) ORDER BY id FOR UPDATE";

/// The batch's own rows, and the timers that its tasks set or cancel, whoever owns them: locked in one order, before any of
/// them is removed. Two batches that each cancel the other's timer would otherwise wait for each other.
const LOCK_ROWS: &str = "
SELECT id, group_id = $1 AND topic = $2 AND partition = $3 AND id = ANY ($4) AS own FROM taskhost.wakeups
WHERE id = ANY (ARRAY(
    SELECT own.id FROM unnest($4::uuid[]) AS own (id)
    UNION ALL
    SELECT timer.id FROM unnest($5::text[], $6::text[]) AS changed (task_id, name)
    CROSS JOIN LATERAL (
        SELECT id FROM taskhost.wakeups
        WHERE kind = 'timer' AND wakeups.task_id = changed.task_id AND wakeups.name = changed.name LIMIT 1
    ) AS timer))
ORDER BY id FOR UPDATE";

impl Batch {
    /// Locks what the write set changes, and compares it with what was read. `seen` has the version of each task that
    /// existed then, `rows` are the rows that the round decided.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a task changed since, [`Error::RowsGone`] if a row is gone; else see
    /// [`Error::disposition`].
    pub async fn check(
        &mut self,
        set: &WriteSet,
        seen: &HashMap<&TaskId, i64>,
        rows: &[Uuid],
    ) -> Result<(), Error> {
        self.check_tasks(set, seen).await?;
        self.check_rows(set, rows).await
    }

    async fn check_tasks(
        &mut self,
        set: &WriteSet,
        seen: &HashMap<&TaskId, i64>,
    ) -> Result<(), Error> {
        if set.updated.is_empty() {
            return Ok(());
        }
        let ids: Vec<&str> = set.updated.iter().map(|task| task.id.as_str()).collect();
        let locked = self.session.rows(sqlx::query(LOCK_TASKS).bind(ids)).await?;
        for row in &locked {
            self.versions
                .insert(task_id(row, "id")?, row.try_get("version")?);
        }
        let is_unchanged = |id: &TaskId| {
            let version = self.versions.get(id);
            version.is_some() && version == seen.get(id)
        };
        let updated = set.updated.iter().map(|task| &task.id);
        let tasks: Vec<TaskId> = updated.filter(|id| !is_unchanged(id)).cloned().collect();
        match tasks.is_empty() {
            true => Ok(()),
            false => self.session.fail(Error::Conflict { tasks }),
        }
    }

    async fn check_rows(&mut self, set: &WriteSet, rows: &[Uuid]) -> Result<(), Error> {
        if rows.is_empty() && set.timers.is_empty() {
            return Ok(());
        }
        let (tasks, names): (Vec<&str>, Vec<&str>) = set
            .timers
            .keys()
            .map(|(task, name)| (task.as_str(), name.as_str()))
            .unzip();
        let statement = keyed(LOCK_ROWS, &self.key)
            .bind(rows)
            .bind(tasks)
            .bind(names);
        let mut found = BTreeSet::new();
        for row in self.session.rows(statement).await? {
            if row.try_get("own")? {
                found.insert(row.try_get::<Uuid, _>("id")?);
            }
        }
        match rows.iter().all(|row| found.contains(row)) {
            true => Ok(()),
            false => self.session.fail(Error::RowsGone),
        }
    }
}
