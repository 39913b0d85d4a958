//! The port to Postgres: [`Ledger`] has what a worker needs. `crate::store` implements it with SQL, and the simulator in `sim/`
//! in memory. `sim/tests/conformance.rs` makes the same calls of both and compares the answers.
//!
//! A partition's owner reads and writes under the epoch of its claim. A call under an earlier epoch writes nothing. Every
//! call but [`Ledger::lock`] is a transaction of its own. It does everything or nothing, also if it fails or its answer is
//! lost.

use std::collections::HashMap;
use std::fmt::Debug;

use async_trait::async_trait;
use taskhost_core::batch::Wakeup;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::halt::Halt;
use taskhost_core::record::Offset;
use taskhost_core::task::TaskId;
use uuid::Uuid;

use crate::store::{
    Batch, Claim, Commit, Commitment, Due, DueReplay, Epoch, Error, Key, Question, Read, Store,
    StoredDeadLetter,
};

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// What a worker needs of Postgres. Whatever fails, [`Error::disposition`] says what to do about it.
#[async_trait]
pub trait Ledger: Debug + Send + Sync {
    /// Claims a partition: raises its epoch, adds the caller's transactional ids to its owners and says who they were.
    /// Waits for a commit under an earlier claim that is under way.
    async fn claim(&self, key: &Key, own_ids: &[String]) -> Result<Claim>;

    /// Whether the group has been on any partition of the topic before.
    async fn topic_known(&self, group: &str, topic: &str) -> Result<bool>;

    /// Stores the first offset of a partition that has none yet.
    async fn start(&self, key: &Key, epoch: Epoch, from: Offset, topic_id: Uuid) -> Result<()>;

    /// Makes the caller the only owner, once every other owner is fenced.
    async fn own_alone(&self, key: &Key, epoch: Epoch, own_ids: &[String]) -> Result<()>;

    /// Takes the caller off the owners: nothing of it is open. False if the partition is somebody else's.
    async fn release(&self, key: &Key, epoch: Epoch, own_ids: &[String]) -> Result<bool>;

    /// Stores why the partition halted.
    async fn halt(&self, key: &Key, epoch: Epoch, halt: &Halt) -> Result<()>;

    /// Whether the partition's row says that it halted.
    async fn is_halted(&self, key: &Key) -> Result<bool>;

    /// The partition is ready: removes the reason of an earlier halt.
    async fn recovered(&self, key: &Key, epoch: Epoch) -> Result<()>;

    /// Raises the lower bound of what is published. Says whether it was raised.
    async fn set_published(&self, key: &Key, batch: BatchNumber) -> Result<bool>;

    /// The frames of committed batches, in order.
    async fn frames(&self, key: &Key, first: BatchNumber, last: BatchNumber) -> Result<Vec<Frame>>;

    /// Removes frames that are published.
    async fn trim(&self, key: &Key, up_to: BatchNumber) -> Result<u64>;

    /// What a round is decided on, read without locks.
    async fn read(&self, key: &Key, question: Question<'_>) -> Result<Read>;

    /// Commits a round if all that it rests on is unchanged.
    async fn commit(&self, key: &Key, commitment: Commitment<'_>) -> Result<Commit>;

    /// Locks progress and tasks before they are read, for a round that lost to others too often.
    async fn lock(&self, key: &Key, epoch: Epoch, tasks: &[TaskId]) -> Result<Box<dyn Held>>;

    /// Whether the attempt with that token was committed, after a lost answer. Waits for a commit that is under way.
    async fn settle(&self, key: &Key, token: Uuid) -> Result<bool>;

    /// When the next row is due, in milliseconds since 1970.
    async fn next_due(&self, key: &Key) -> Result<Option<i64>>;

    /// [`Ledger::next_due`], if the partition is still the caller's.
    async fn next_due_of_own(
        &self,
        key: &Key,
        epoch: Epoch,
        own_ids: &[String],
    ) -> Result<Option<i64>>;

    /// What is due, by task, with what is ahead of it.
    async fn due_chains(&self, key: &Key, now: i64, limit: u32) -> Result<Due>;

    /// Rows that wait, in the order of the ids.
    async fn waiting_rows(&self, key: &Key, ids: &[Uuid]) -> Result<Vec<Wakeup>>;

    /// Dead letters that are to be decided again, in their order.
    async fn due_replays(
        &self,
        key: &Key,
        now: i64,
        limit: u32,
        bytes_max: u64,
    ) -> Result<Vec<DueReplay>>;

    /// The dead letters that rows stand for.
    async fn replays_of(
        &self,
        group: &str,
        rows: &[Uuid],
    ) -> Result<HashMap<Uuid, StoredDeadLetter>>;

    /// Puts off rows that this host can't decide, each with the reason. Says how many.
    async fn strand(&self, key: &Key, epoch: Epoch, rows: &[(Uuid, &str)], due: i64)
    -> Result<u64>;

    /// How many rows are stranded, and why one of them is.
    async fn count_stranded(&self, key: &Key) -> Result<(i64, Option<String>)>;

    /// How long the partition has worked, in milliseconds.
    async fn set_worked(&self, key: &Key, epoch: Epoch, worked: i64) -> Result<()>;

    /// For each task of the partition whose first row missed its turn: gives it the turn. Says how many.
    async fn settle_chains(&self, key: &Key, now: i64) -> Result<u64>;

    /// Gives the first row of each of these tasks its turn, in every partition. Says in which.
    async fn settle_tasks(&self, tasks: &[TaskId], now: i64) -> Result<Vec<Key>>;

    /// Makes the first row that waits for each of these tasks due, in every partition: a hint. Says in which.
    async fn wake_tasks(&self, tasks: &[TaskId], now: i64) -> Result<Vec<Key>>;

    /// Those of the tasks that have another version than was seen.
    async fn changed(&self, tasks: &[(TaskId, i64)]) -> Result<Vec<TaskId>>;

    /// Tells the hosts of these partitions that something of theirs is due.
    async fn notify(&self, keys: &[Key]) -> Result<()>;
}

/// Progress and tasks that are locked, until a round is committed on them or this is dropped.
#[async_trait]
pub trait Held: Send {
    /// [`Ledger::commit`] under the locks.
    async fn commit(self: Box<Self>, commitment: Commitment<'_>) -> Result<Commit>;
}

#[async_trait]
impl Held for Batch {
    async fn commit(self: Box<Self>, commitment: Commitment<'_>) -> Result<Commit> {
        self.complete(commitment).await
    }
}

#[async_trait]
impl Ledger for Store {
    async fn claim(&self, key: &Key, own_ids: &[String]) -> Result<Claim> {
        Store::claim(self, key, own_ids).await
    }

    async fn topic_known(&self, group: &str, topic: &str) -> Result<bool> {
        Store::topic_known(self, group, topic).await
    }

    async fn start(&self, key: &Key, epoch: Epoch, from: Offset, topic_id: Uuid) -> Result<()> {
        Store::start(self, key, epoch, from, topic_id).await
    }

    async fn own_alone(&self, key: &Key, epoch: Epoch, own_ids: &[String]) -> Result<()> {
        Store::own_alone(self, key, epoch, own_ids).await
    }

    async fn release(&self, key: &Key, epoch: Epoch, own_ids: &[String]) -> Result<bool> {
        Store::release(self, key, epoch, own_ids).await
    }

    async fn halt(&self, key: &Key, epoch: Epoch, halt: &Halt) -> Result<()> {
        Store::halt(self, key, epoch, halt).await
    }

    async fn is_halted(&self, key: &Key) -> Result<bool> {
        Store::is_halted(self, key).await
    }

    async fn recovered(&self, key: &Key, epoch: Epoch) -> Result<()> {
        Store::recovered(self, key, epoch).await
    }

    async fn set_published(&self, key: &Key, batch: BatchNumber) -> Result<bool> {
        Store::set_published(self, key, batch).await
    }

    async fn frames(&self, key: &Key, first: BatchNumber, last: BatchNumber) -> Result<Vec<Frame>> {
        Store::frames(self, key, first, last).await
    }

    async fn trim(&self, key: &Key, up_to: BatchNumber) -> Result<u64> {
        Store::trim(self, key, up_to).await
    }

    async fn read(&self, key: &Key, question: Question<'_>) -> Result<Read> {
        Store::read(self, key, question).await
    }

    async fn commit(&self, key: &Key, commitment: Commitment<'_>) -> Result<Commit> {
        Store::commit(self, key, commitment).await
    }

    async fn lock(&self, key: &Key, epoch: Epoch, tasks: &[TaskId]) -> Result<Box<dyn Held>> {
        Ok(Box::new(Store::lock(self, key, epoch, tasks).await?))
    }

    async fn settle(&self, key: &Key, token: Uuid) -> Result<bool> {
        Store::settle(self, key, token).await
    }

    async fn next_due(&self, key: &Key) -> Result<Option<i64>> {
        Store::next_due(self, key).await
    }

    async fn next_due_of_own(
        &self,
        key: &Key,
        epoch: Epoch,
        own_ids: &[String],
    ) -> Result<Option<i64>> {
        Store::next_due_of_own(self, key, epoch, own_ids).await
    }

    async fn due_chains(&self, key: &Key, now: i64, limit: u32) -> Result<Due> {
        Store::due_chains(self, key, now, limit).await
    }

    async fn waiting_rows(&self, key: &Key, ids: &[Uuid]) -> Result<Vec<Wakeup>> {
        Store::waiting_rows(self, key, ids).await
    }

    async fn due_replays(
        &self,
        key: &Key,
        now: i64,
        limit: u32,
        bytes_max: u64,
    ) -> Result<Vec<DueReplay>> {
        Store::due_replays(self, key, now, limit, bytes_max).await
    }

    async fn replays_of(
        &self,
        group: &str,
        rows: &[Uuid],
    ) -> Result<HashMap<Uuid, StoredDeadLetter>> {
        Store::replays_of(self, group, rows).await
    }

    async fn strand(
        &self,
        key: &Key,
        epoch: Epoch,
        rows: &[(Uuid, &str)],
        due: i64,
    ) -> Result<u64> {
        Store::strand(self, key, epoch, rows, due).await
    }

    async fn count_stranded(&self, key: &Key) -> Result<(i64, Option<String>)> {
        Store::count_stranded(self, key).await
    }

    async fn set_worked(&self, key: &Key, epoch: Epoch, worked: i64) -> Result<()> {
        Store::set_worked(self, key, epoch, worked).await
    }

    async fn settle_chains(&self, key: &Key, now: i64) -> Result<u64> {
        Store::settle_chains(self, key, now).await
    }

    async fn settle_tasks(&self, tasks: &[TaskId], now: i64) -> Result<Vec<Key>> {
        Store::settle_tasks(self, tasks, now).await
    }

    async fn wake_tasks(&self, tasks: &[TaskId], now: i64) -> Result<Vec<Key>> {
        Store::wake_tasks(self, tasks, now).await
    }

    async fn changed(&self, tasks: &[(TaskId, i64)]) -> Result<Vec<TaskId>> {
        Store::changed(self, tasks).await
    }

    async fn notify(&self, keys: &[Key]) -> Result<()> {
        Store::notify(self, keys).await
    }
}
