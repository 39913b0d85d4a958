//! The settings of batches: how much is decided, committed and published at once.

use super::input::Input;
use super::setting::section;

section! {
    /// The limits of batches, and of batches that wait to be published.
    pub struct Batch in "batch" {
        /// The most messages of one partition that are decided and committed together.
        messages_max: u32 = "1000" [1..=10000], "TASKHOST_BATCH_MESSAGES_MAX" => "a worker's batch";
        /// The most bytes of messages in one batch; a single larger message is a batch of its own.
        bytes_max: u64 = "4194304" [1024..=268435456 bytes], "TASKHOST_BATCH_BYTES_MAX" => "a worker's batch";
        /// The most batches of all partitions that are decided and committed at once; 0 means one for each core. Batches
        /// that wait grow.
        at_once_max: u32 = "0" [0..=1000], "TASKHOST_BATCHES_AT_ONCE_MAX" => "the host's workers";
        /// The most committed batches of one partition that wait for Kafka. Beyond it the partition decides no further.
        frames_unpublished_max: u32 = "64" [1..=100000], "TASKHOST_BATCH_FRAMES_UNPUBLISHED_MAX"
            => "back pressure from the publisher";
        /// The most bytes of outgoing messages in one Kafka transaction; a single larger batch is a transaction of its own.
        transaction_bytes_max: u64 = "16777216" [1024..=1073741824 bytes], "TASKHOST_BATCH_TRANSACTION_BYTES_MAX"
            => "the publisher's transactions";
    }
}

impl Batch {
    pub(super) fn check(&self, input: &mut Input, send_queue_bytes_max: u64) {
        if self.transaction_bytes_max > send_queue_bytes_max {
            input.contradiction(
                &["batch.transaction_bytes_max", "kafka.send_queue_bytes_max"],
                format!(
                    "batch.transaction_bytes_max is {}, more than kafka.send_queue_bytes_max, {send_queue_bytes_max}",
                    self.transaction_bytes_max
                ),
                "set TASKHOST_BATCH_TRANSACTION_BYTES_MAX to at most KAFKA_SEND_QUEUE_BYTES_MAX",
            );
        }
    }
}
