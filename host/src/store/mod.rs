//! Everything that is kept in Postgres: the only place with SQL.
//!
//! ```text
//!  claim ──► start ──► read ► (decide) ► commit ──► frames ► trim
//!  progress            nothing held      one call    progress
//! ```
//!
//! A round is read without locks and committed by one call of the function `taskhost_commit_1`, which checks all that it was
//! decided on and writes everything or nothing. Only as a last resort are its tasks locked first, in a [`Batch`].
//!
//! [`Store`] is a pool of connections whose sessions are set up as the protocol demands. Its methods are spread
//! over the files by what they are about: [`progress`](self) of partitions, a [`Batch`] as one transaction, wakeups,
//! halts and how they are resolved, plugin versions and activations, and what people look at.
//!
//! Kept here: every write that a partition's owner makes names the epoch it claimed, so a host that lost the partition
//! writes nothing. Rows are locked in one order (progress, tasks by id, wakeups by id, routes' advisory locks, new
//! tasks by id), so batches wait for each other and never in a circle. Every wait ends: in the pool, for a lock, for
//! a statement, in an idle transaction, and for a server that is gone.
//!
//! On failure an [`Error`] says by its [`Disposition`] what to do; retrying is left to the caller.

mod activation_starts;
mod batch;
mod breaker_orders;
mod call;
mod commit;
mod commitment;
mod dead_letters;
mod deciders;
mod diagnose;
mod dlq;
mod error;
mod firsts;
mod halts;
mod history;
mod keyed;
mod listen;
mod migrate;
mod millis;
mod open;
mod pages;
mod pool;
mod probe;
mod progress;
mod question;
mod read;
mod remembered;
mod rollbacks;
mod row;
mod schema;
mod session;
mod settle;
mod tasks;
mod versions;
mod waiting;
mod waiting_list;
mod wakeups;
mod write;

use std::fmt;
use std::sync::Arc;

use taskhost_core::record::TopicPartition;

pub use activation_starts::{ActivationStart, NewStart, PastActivation, Started};
pub use breaker_orders::{BreakerOrder, OrderedState};
pub use commitment::{Commitment, Seen};
pub use dead_letters::{State, StoredDeadLetter};
pub use diagnose::{Cause, Diagnosis};
pub use dlq::{
    Counted, DueReplay, Edit, Edited, Filter, Imported, Kept, OpenLetters, Place, Requested,
    Trimmed,
};
pub use error::{Disposition, Error};
pub use halts::Halted;
pub use keyed::Epoch;
pub use listen::{Heard, Listener};
pub use migrate::{SchemaState, migrations};
pub use open::{Batch, Commit};
pub use pages::Pages;
pub use pool::{Settings, Store};
pub use progress::{Claim, Counters, PartitionProgress};
pub use question::{Checkpoint, Question};
pub use read::Read;
pub use rollbacks::RolledBack;
pub use tasks::{RecordedEvent, StatusCount, TaskFilter, TaskRow};
pub use versions::{Activated, Activation, ActivationKind, NewActivation, StoredVersion};
pub use waiting::Due;
pub use waiting_list::{Ordered, WaitingFilter, WaitingRow};

/// One partition as one consumer group sees it: whose progress, outbox and wakeups.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The consumer group.
    pub group: Arc<str>,
    /// The partition.
    pub partition: TopicPartition,
}

impl Key {
    /// Names a group's partition.
    pub fn new(group: impl Into<Arc<str>>, partition: TopicPartition) -> Self {
        Self {
            group: group.into(),
            partition,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of group {}", self.partition, self.group)
    }
}
