//! One call that commits what a round decided: it checks all that the decisions rest on, and writes everything or nothing.

use std::collections::HashMap;

use taskhost_core::batch::WriteSet;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::record::Offset;
use taskhost_core::task::TaskId;
use uuid::Uuid;

use super::Key;
use super::activation_starts::NewStart;
use super::batch::{Batch, Commit};
use super::error::Error;
use super::pool::Store;
use super::progress::Epoch;
use super::read::Checkpoint;

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
    /// Milliseconds since 1970: when a row gets its turn that waited behind one that is done.
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
    /// Commits a round.
    ///
    /// # Errors
    /// Then it is certain that nothing was committed. [`Error::Lost`] if the partition is not where its owner left it;
    /// [`Error::Conflict`], [`Error::CreationRaced`], [`Error::RowsGone`] or [`Error::Activated`] if something else
    /// changed; else see [`Error::disposition`].
    pub async fn commit(&self, key: &Key, commitment: Commitment<'_>) -> Result<Commit, Error> {
        // Before the batch holds anything: what isn't stored yet is, over another connection.
        self.number_deciders(&commitment.set.events).await?;
        let batch = self.begin(key, commitment.owner.0).await?;
        batch.complete(commitment).await
    }

    /// Locks tasks before they are read, for a round that lost to others too often. [`Batch::complete`] commits it.
    ///
    /// # Errors
    /// As for [`Store::commit`].
    pub async fn lock(&self, key: &Key, epoch: Epoch, tasks: &[TaskId]) -> Result<Batch, Error> {
        let mut batch = self.begin(key, epoch).await?;
        batch.lock_tasks(tasks).await?;
        Ok(batch)
    }
}

impl Batch {
    /// [`Store::commit`] within a batch whose tasks are locked.
    ///
    /// # Errors
    /// As there.
    pub async fn complete(mut self, commitment: Commitment<'_>) -> Result<Commit, Error> {
        match self.prepare(&commitment).await {
            Ok(from) => {
                let Commitment {
                    worked,
                    frame,
                    token,
                    published,
                    ..
                } = commitment;
                let frame = Frame {
                    batch: self.number(),
                    ..frame
                };
                self.having_worked(worked)
                    .commit(from, frame, token, published)
                    .await
            }
            Err(error) => {
                self.rollback().await;
                Err(error)
            }
        }
    }

    /// Checks and writes everything but progress and frame.
    async fn prepare(&mut self, commitment: &Commitment<'_>) -> Result<Offset, Error> {
        let (_, left) = commitment.owner;
        self.check_checkpoint(left)?;
        let Seen {
            tasks,
            rows,
            activations,
        } = &commitment.seen;
        self.check(commitment.set, tasks, rows).await?;
        if !self.check_activations(activations).await? {
            return self.session.fail(Error::Activated);
        }
        self.write(commitment.set, commitment.now).await?;
        self.start_activations(commitment.starts).await?;
        Ok(left.next_offset)
    }
}
