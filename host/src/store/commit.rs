//! The one call that commits what a round decided: it checks everything that the decisions rest on, and writes all or nothing.

use std::collections::HashMap;

use sqlx::Row;
use taskhost_core::batch::WriteSet;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::task::TaskId;
use uuid::Uuid;

use super::Key;
use super::activation_starts::NewStart;
use super::batch::{Batch, Commit};
use super::call;
use super::error::Error;
use super::pool::Store;
use super::progress::{Epoch, keyed};
use super::read::Checkpoint;
use super::session::{Ended, Session};
use crate::failpoint;
use crate::mutant::{self, Mutant};

/// A round to be committed.
#[derive(Debug)]
pub struct Commitment<'a> {
    /// Where its owner left the partition, and the claim that says so.
    pub owner: (Epoch, Checkpoint),
    /// What to write.
    pub set: &'a WriteSet,
    /// What it was decided on.
    pub seen: Seen<'a>,
    /// The activations that take effect with it.
    pub starts: &'a [NewStart],
    /// Milliseconds since 1970: the due time of a row that gets its turn because the one before it is done.
    pub now: i64,
    /// How long the partition has worked, in milliseconds.
    pub worked: i64,
    /// The next record to decide, and the outgoing records.
    pub frame: Frame,
    /// Random, new for each attempt.
    pub token: Uuid,
    /// The highest batch known to be published, if that is known.
    pub published: Option<BatchNumber>,
}

/// What a round was decided on. If any of it has changed, nothing is written.
#[derive(Debug, Default)]
pub struct Seen<'a> {
    /// The version of each task that existed.
    pub tasks: HashMap<&'a TaskId, i64>,
    /// The rows that it decided.
    pub rows: &'a [Uuid],
    /// The number of the activation of each route, by its name; 0 for none.
    pub activations: &'a [(&'a str, i64)],
}

impl Store {
    /// Commits a round by one call.
    ///
    /// # Errors
    /// Then it is certain that nothing was committed. [`Error::Lost`] if the partition is not where its owner left it;
    /// [`Error::Conflict`], [`Error::CreationRaced`], [`Error::RowsGone`] or [`Error::Activated`] if something else
    /// changed; [`Error::TooLarge`] if it needs more than one call; else see [`Error::disposition`].
    pub async fn commit(&self, key: &Key, commitment: Commitment<'_>) -> Result<Commit, Error> {
        let commitment = match mutant::is_armed(Mutant::Epoch) {
            true => self.disowned(key, commitment).await?,
            false => commitment,
        };
        // New deciders are stored in a statement of their own, before anything is locked.
        let deciders = self.number_deciders(&commitment.set.events).await?;
        let (call, frame) = call::of(key, commitment, &deciders)?;
        let ended = match self.sessions_are_set {
            true => {
                let session = Session::look(self).await?;
                failpoint::hit("before-postgres-commit");
                session.call(call.statement()).await?
            }
            false => {
                let mut session = Session::begin(self).await?;
                session.execute(call.statement()).await?;
                failpoint::hit("before-postgres-commit");
                session.commit().await?
            }
        };
        failpoint::hit("after-postgres-commit");
        Ok(ended_with(ended, frame))
    }

    /// Locks the partition and tasks before they are read, for a round that lost to others too often. [`Batch::complete`]
    /// commits it.
    ///
    /// # Errors
    /// As for [`Store::commit`].
    pub async fn lock(&self, key: &Key, epoch: Epoch, tasks: &[TaskId]) -> Result<Batch, Error> {
        let mut batch = self.begin(key, epoch).await?;
        batch.lock_tasks(tasks).await?;
        Ok(batch)
    }

    /// The commitment with the partition's present claim and place instead of its own ([`Mutant::Epoch`]).
    async fn disowned<'a>(
        &self,
        key: &Key,
        commitment: Commitment<'a>,
    ) -> Result<Commitment<'a>, Error> {
        let sql = "SELECT epoch, batch, next_offset, batch_token FROM taskhost.progress
                   WHERE group_id = $1 AND topic = $2 AND partition = $3";
        let Some(row) = self.read_row(keyed(sql, key)).await? else {
            return Err(Error::Lost);
        };
        let left = Checkpoint {
            batch: row.try_get("batch")?,
            next_offset: row.try_get("next_offset")?,
            token: row.try_get("batch_token")?,
        };
        Ok(Commitment {
            owner: (row.try_get("epoch")?, left),
            ..commitment
        })
    }
}

impl Batch {
    /// [`Store::commit`] within a batch whose tasks are locked.
    ///
    /// # Errors
    /// As there.
    pub async fn complete(mut self, commitment: Commitment<'_>) -> Result<Commit, Error> {
        let owner = match mutant::is_armed(Mutant::Epoch) {
            true => (self.epoch, self.checkpoint()),
            false => commitment.owner,
        };
        let deciders = self.store.number_deciders(&commitment.set.events).await?;
        let commitment = Commitment {
            owner,
            ..commitment
        };
        let (call, frame) = call::of(&self.key, commitment, &deciders)?;
        if let Err(error) = self.session.execute(call.statement()).await {
            self.rollback().await;
            return Err(error);
        }
        failpoint::hit("before-postgres-commit");
        let ended = self.session.commit().await?;
        failpoint::hit("after-postgres-commit");
        Ok(ended_with(ended, frame))
    }
}

fn ended_with(ended: Ended, frame: Frame) -> Commit {
    match ended {
        Ended::Committed => Commit::Committed(frame),
        Ended::Unknown(error) => Commit::Unknown { frame, error },
    }
}
