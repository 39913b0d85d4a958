//! The one call that commits what a round decided: it checks everything that the decisions rest on, and writes all or nothing.

use sqlx::Row;
use taskhost_core::frame::Frame;
use taskhost_core::task::TaskId;

use super::Key;
use super::call;
use super::commitment::Commitment;
use super::error::Error;
use super::keyed::{Epoch, keyed};
use super::open::{Batch, Commit};
use super::pool::Store;
use super::question::Checkpoint;
use super::session::{Ended, Session};
use crate::failpoint;
use crate::mutant::{self, Mutant};

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
