//! The result of a frame that is handed to the publisher.

use taskhost_core::frame::BatchNumber;

/// The result of a frame.
pub type Answer = std::result::Result<(), Unpublished>;

/// Why a frame is not known to be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpublished {
    /// A message can't be published: nothing of this frame was published, and nothing after it will be.
    #[error("a message of batch {batch} to {topic} can't be published: {reason}")]
    Poison {
        /// The frame's number.
        batch: BatchNumber,
        /// The output topic.
        topic: String,
        /// The broker's or librdkafka's reason.
        reason: String,
    },
    /// It is unknown whether the frame was published: read the watermark again, and begin again.
    #[error("it is unknown whether the frame is published: {reason}")]
    Uncertain {
        /// What happened.
        reason: String,
    },
    /// This host no longer owns the partition.
    #[error("this host no longer owns the partition")]
    NotOwner,
    /// A frame is missing, or the worker has not begun.
    #[error("batch {found} is not the next to publish, {expected:?} is")]
    Gap {
        /// The next frame's number; none before `begin`.
        expected: Option<BatchNumber>,
        /// The number that was handed in.
        found: BatchNumber,
    },
    /// The publisher is stopping.
    #[error("the publisher has stopped")]
    Stopped,
}
