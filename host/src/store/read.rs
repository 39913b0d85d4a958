//! What a round is decided on, read without locks: no transaction stays open while a plugin runs.
//!
//! It is one statement. While messages of the partition wait, a second one reads what is ahead of the batch. The second may see
//! more than the first. That is right: what it adds was there before the commit, which checks progress.
//!
//! The commit checks all that a decision rests on: progress, the version of each task that changes, the rows that end or
//! move, and the activations. So what is read here may be outdated, and then the round is decided again.

use std::collections::HashMap;

use sqlx::Row;
use taskhost_core::record::Offset;
use taskhost_core::task::{Task, TaskId};
use taskhost_core::waiting::Ahead;

use super::Key;
use super::error::Error;
use super::keyed::keyed;
use super::pool::Store;
use super::question::{Checkpoint, Question};
use super::row::task;
use super::session::Session;
use super::waiting;
use crate::mutant::{self, Mutant};

/// What was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// Where the partition is.
    pub checkpoint: Checkpoint,
    /// Those of the tasks that exist.
    pub tasks: Vec<Task>,
    /// How many of the rows are there.
    pub rows: usize,
    /// What waits of the tasks besides the rows.
    pub ahead: HashMap<TaskId, Ahead>,
}

/// One statement, so that a reader that lags behind shows by the progress row that it does. In a function (migrations/0014),
/// as its plan must not come from statistics either.
const READ: &str = "SELECT * FROM taskhost.taskhost_read_1($1, $2, $3, $4, $5, $6, $7)";

impl Store {
    /// Reads what a round is decided on.
    ///
    /// # Errors
    /// [`Error::Lost`] if somebody else claimed the partition. [`Error::Standby`] from a server that doesn't take writes.
    pub async fn read(&self, key: &Key, question: Question<'_>) -> Result<Read, Error> {
        let ids: Vec<&str> = question.tasks.iter().map(TaskId::as_str).collect();
        let statement = keyed(READ, key)
            .bind(question.epoch)
            .bind(ids)
            .bind(question.rows)
            .bind(mutant::is_armed(Mutant::Epoch));
        let mut session = Session::look(self).await?;
        let found = session.rows(statement).await?;
        let Some(first) = found.first() else {
            return session.fail(Error::Lost);
        };
        if first.try_get("standby")? {
            return session.fail(Error::Standby);
        }
        let rows: i64 = first.try_get("rows_found")?;
        let checkpoint = Checkpoint {
            batch: first.try_get("batch")?,
            next_offset: first
                .try_get::<Option<Offset>, _>("next_offset")?
                .unwrap_or(0),
            token: first.try_get("batch_token")?,
        };
        let mut tasks = Vec::with_capacity(found.len());
        for row in &found {
            if row.try_get::<Option<&str>, _>("id")?.is_some() {
                tasks.push(task(row)?);
            }
        }
        let ahead = match question.ahead {
            true => waiting::ahead(&mut session, key, question).await?,
            false => HashMap::new(),
        };
        session.rollback().await;
        Ok(Read {
            checkpoint,
            tasks,
            rows: usize::try_from(rows).unwrap_or(0),
            ahead,
        })
    }
}
