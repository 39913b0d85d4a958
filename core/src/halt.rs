//! Why a partition halts: what no crash explains, and what a person can do about it.

use std::fmt;

use uuid::Uuid;

use crate::frame::BatchNumber;
use crate::record::{Offset, TopicPartition};
use crate::watermark::Watermark;

/// Why a partition stops until a person decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The group's offset says that batches were published, and Postgres knows of none.
    ProgressLost {
        /// The batch named in the offset's metadata.
        batch: BatchNumber,
    },
    /// The topic was deleted and made again: its offsets mean other records.
    TopicRecreated {
        /// The id when the partition was started.
        was: Uuid,
        /// The id now.
        is: Uuid,
    },
    /// The next record to decide is not in the log: retention passed it, or the log was cut.
    OutsideLog {
        /// The next record to decide.
        offset: Offset,
        /// The first offset that is there.
        low: Offset,
        /// The end of the log.
        high: Offset,
    },
    /// Progress and watermark can't both be right.
    Disagree {
        /// The last committed batch.
        batch: BatchNumber,
        /// The highest batch known to be published.
        published: Option<BatchNumber>,
        /// What the group's offset says.
        watermark: Watermark,
    },
    /// A frame that has to be published is not in the outbox.
    FrameMissing {
        /// Its batch.
        batch: BatchNumber,
    },
    /// A stored frame can't be read.
    FrameUnreadable {
        /// Its batch.
        batch: BatchNumber,
    },
    /// The group's offset has metadata of taskhost's that this host can't read.
    MetadataUnreadable {
        /// The committed offset.
        offset: Offset,
    },
    /// An output message that Kafka refuses for good.
    Unpublishable {
        /// The batch it belongs to.
        batch: BatchNumber,
        /// The topic it is for.
        topic: String,
        /// Kafka's own words.
        reason: String,
    },
    /// Postgres refused a write in a way that blames no message.
    Refused {
        /// Its own words.
        reason: String,
    },
    /// The partition has no start, though it was asked to go on.
    NotStarted,
}

impl Halt {
    /// The reason's name in metrics and health.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ProgressLost { .. } => "progress-lost",
            Self::TopicRecreated { .. } => "topic-recreated",
            Self::OutsideLog { .. } => "offset-outside-log",
            Self::Disagree { .. } => "watermark-disagrees",
            Self::FrameMissing { .. } => "frame-missing",
            Self::FrameUnreadable { .. } => "frame-unreadable",
            Self::Unpublishable { .. } => "unpublishable-message",
            Self::MetadataUnreadable { .. } => "offset-metadata-unreadable",
            Self::Refused { .. } => "database-refused",
            Self::NotStarted => "not-started",
        }
    }
}

impl Halt {
    /// The command that resolves it, or what to put right before.
    pub fn next_step(&self, partition: &TopicPartition) -> String {
        let TopicPartition { topic, partition } = partition;
        let command = |verb: &str, rest: &str| {
            let rest = match rest {
                "" => String::new(),
                rest => format!(" {rest}"),
            };
            format!("`taskhost partition {verb} {topic} {partition}{rest}`")
        };
        match self {
            Self::ProgressLost { .. } => format!(
                "put DATABASE_URL right; or go on after what was published: {}",
                command("reset", "--to committed")
            ),
            Self::TopicRecreated { .. } | Self::OutsideLog { .. } => format!(
                "go on with the oldest record that is there: {}",
                command("reset", "--to earliest")
            ),
            Self::Disagree { .. } | Self::MetadataUnreadable { .. } => format!(
                "go on where Postgres is, whatever the group's offset says: {}",
                command("reset", "--to progress")
            ),
            Self::FrameMissing { .. } | Self::FrameUnreadable { .. } => format!(
                "go on without the messages that are lost: {}",
                command("reset", "--to progress --drop-unpublished")
            ),
            Self::Unpublishable { topic: output, .. } => format!(
                "put the topic {output} right and {}; or set the message aside: {}",
                command("resume", ""),
                command("divert", "")
            ),
            Self::Refused { .. } => {
                format!("put right what it names and {}", command("resume", ""))
            }
            Self::NotStarted => command("resume", ""),
        }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProgressLost { batch } => write!(
                f,
                "the group's offset says that batch {batch} was published, but Postgres has no progress: \
                 was the database emptied or is DATABASE_URL another one?"
            ),
            Self::TopicRecreated { was, is } => {
                write!(
                    f,
                    "the topic was deleted and made again (id {was}, now {is}): its offsets mean other records"
                )
            }
            Self::OutsideLog { offset, low, high } => write!(
                f,
                "the next record to decide, {offset}, is not in the log ({low} to {high}): \
                 retention passed it, or the log was cut"
            ),
            Self::Disagree {
                batch,
                published,
                watermark,
            } => {
                let published = published.map_or("none".to_owned(), |batch| batch.to_string());
                let mark = told(watermark, *batch);
                write!(
                    f,
                    "Postgres has batch {batch} (published: {published}), the group's offset says {mark}: \
                     offsets were moved by hand, the database was restored from a backup, or a failover lost its last commits"
                )
            }
            Self::FrameMissing { batch } => {
                write!(
                    f,
                    "batch {batch} has to be published and its frame is not in the outbox"
                )
            }
            Self::FrameUnreadable { batch } => {
                write!(f, "the outbox frame of batch {batch} can't be read")
            }
            Self::MetadataUnreadable { offset } => write!(
                f,
                "the group's offset {offset} has metadata of another taskhost that this one can't read: \
                 was it committed by a newer version?"
            ),
            Self::Unpublishable {
                batch,
                topic,
                reason,
            } => write!(
                f,
                "Kafka refuses a message of batch {batch} to {topic} for good: {reason}"
            ),
            Self::Refused { reason } => write!(
                f,
                "Postgres refused a write that blames no message: {reason}"
            ),
            Self::NotStarted => f.write_str("the partition has no start"),
        }
    }
}

/// What the group's offset says, beside this batch of Postgres.
fn told(watermark: &Watermark, batch: BatchNumber) -> String {
    match watermark {
        Watermark::None => "nothing".to_owned(),
        Watermark::Unreadable(offset) => {
            format!("offset {offset} with metadata that can't be read")
        }
        Watermark::Foreign(offset) => format!("offset {offset} of another consumer"),
        Watermark::Ours(mark) if mark.batch == batch => {
            format!("another attempt of batch {batch} at offset {}", mark.offset)
        }
        Watermark::Ours(mark) => format!("batch {} at offset {}", mark.batch, mark.offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_halt_names_the_command_that_resolves_it() {
        let partition = TopicPartition::new("task-status", 3);
        let unpublishable = Halt::Unpublishable {
            batch: 7,
            topic: "task-events".to_owned(),
            reason: "Broker: Message size too large".to_owned(),
        };
        assert_eq!(
            unpublishable.next_step(&partition),
            "put the topic task-events right and `taskhost partition resume task-status 3`; or set the message aside: \
             `taskhost partition divert task-status 3`"
        );
        let missing = Halt::FrameMissing { batch: 7 };
        assert!(missing.next_step(&partition).ends_with(
            "`taskhost partition reset task-status 3 --to progress --drop-unpublished`"
        ));
    }
}
