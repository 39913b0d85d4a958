//! A batch in a transaction of its own, as it is handed from step to step.

use std::collections::HashMap;

use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::outcome::Counts;
use taskhost_core::record::Offset;
use taskhost_core::task::TaskId;
use uuid::Uuid;

use super::Key;
use super::error::Error;
use super::keyed::Epoch;
use super::pool::Store;
use super::session::Session;

/// An open batch. The methods are called in the order in which they stand, which is the order of the locks; each may be
/// left out if there is nothing to do. Dropping it, like [`Batch::rollback`], leaves nothing behind. After an error
/// only a rollback is left.
#[derive(Debug)]
pub struct Batch {
    pub(super) session: Session,
    pub(super) key: Key,
    /// For what is stored outside of the batch: the deciders of its events.
    pub(super) store: Store,
    pub(super) epoch: Epoch,
    /// The last committed batch when this one began.
    pub(super) seen: BatchNumber,
    pub(super) next_offset: Offset,
    /// The token of the attempt that committed that one.
    pub(super) token: Option<Uuid>,
    /// Versions of the tasks that are locked.
    pub(super) versions: HashMap<TaskId, i64>,
    pub(super) counts: Counts,
    /// How long the partition has worked, in milliseconds.
    pub(super) worked: i64,
}

/// How a batch ended.
#[derive(Debug)]
pub enum Commit {
    /// It is committed; the frame is to be published.
    Committed(Frame),
    /// The answer to COMMIT was lost. Ask [`Store::settle`] with the token.
    Unknown {
        /// To be published if it was committed.
        frame: Frame,
        /// Why the answer was lost.
        error: Error,
    },
}
