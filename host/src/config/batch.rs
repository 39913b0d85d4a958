//! The settings of batches: how much is decided and committed at once.

use super::section::section;

section! {
    /// The limits of batches.
    pub struct Batch in "batch" {
        /// The most messages of one partition that are decided and committed together.
        messages_max: u32 = "1000" [1..=10000], "TASKHOST_BATCH_MESSAGES_MAX" => "a worker's batch";
        /// The most bytes of messages in one batch; a single larger message is a batch of its own.
        bytes_max: u64 = "4194304" [1024..=268435456 bytes], "TASKHOST_BATCH_BYTES_MAX" => "a worker's batch";
        /// The most batches of all partitions that are decided and committed at once; 0 means one for each core. Batches
        /// that wait grow.
        at_once_max: u32 = "0" [0..=1000], "TASKHOST_BATCHES_AT_ONCE_MAX" => "the host's workers";
    }
}
