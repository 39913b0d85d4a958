//! What is asked before a round, and how far its partition is.

use taskhost_core::frame::BatchNumber;
use taskhost_core::record::Offset;
use taskhost_core::task::TaskId;
use uuid::Uuid;

use super::keyed::Epoch;

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The claim under which the partition is read.
    pub epoch: Epoch,
    /// The tasks.
    pub tasks: &'a [TaskId],
    /// The rows that are to be decided.
    pub rows: &'a [Uuid],
    /// The dead letters whose replays are to be decided.
    pub letters: &'a [Uuid],
    /// Whether anything may wait besides them.
    pub ahead: bool,
}

/// How far a partition is decided, as its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last committed batch.
    pub batch: BatchNumber,
    /// The next record to decide.
    pub next_offset: Offset,
    /// The token of the attempt that committed the last batch.
    pub token: Option<Uuid>,
}
