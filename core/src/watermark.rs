//! How far a partition's outbox is published, as Kafka says it.

use crate::frame::BatchNumber;
use crate::record::Offset;

/// What the group's committed offset says: how far the outbox is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// Nothing is committed.
    None,
    /// An offset that another consumer committed.
    Foreign(Offset),
    /// An offset with metadata of ours that can't be read: of a newer taskhost, or damaged.
    Unreadable(Offset),
    /// An offset of ours.
    Ours {
        /// The offset that was committed with the batch.
        offset: Offset,
        /// Every frame up to it is published.
        batch: BatchNumber,
    },
}
