//! What the consumer, its poll thread and its nudge share, and what they say to each other and to the host.

use std::collections::HashMap;
use std::sync::atomic::AtomicU8;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::TopicPartitionList;
use taskhost_core::record::TopicPartition;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::ffi::native::PolledConsumer;
use crate::log::{Error, Feed, Feeder, Ownership, Tag};

/// The events of the group's rebalances for this host.
#[derive(Debug)]
pub enum Assignment {
    /// This host owns the partition until it is revoked. Nothing is read before the partition is added.
    Assigned {
        /// Which.
        partition: TopicPartition,
        /// The number of this assignment.
        tag: Tag,
        /// Its messages, once it is added.
        feed: Feed,
        /// Cancelled when the partition is about to be revoked: finish the open batch, then call
        /// [`Ownership::released`].
        draining: CancellationToken,
    },
    /// This host no longer owns the partition.
    Revoked {
        /// Which.
        partition: TopicPartition,
        /// The assignment that ended.
        tag: Tag,
        /// Whether it was lost (the session expired, or the consumer failed) rather than given back.
        lost: bool,
    },
    /// A problem for health; librdkafka goes on trying.
    Trouble(Error),
    /// No broker can be reached.
    Gone(Error),
    /// The consumer had a fatal error and has ended.
    Failed(Error),
}

/// The commands of other threads.
pub(crate) enum Command {
    Resume(TopicPartition, Tag),
    Remove(TopicPartition, Tag, oneshot::Sender<Result<bool, Error>>),
    Close,
}

/// What all three have.
pub(crate) struct Shared {
    pub(crate) polled: PolledConsumer,
    pub(crate) ownership: Arc<Ownership>,
    feeders: Mutex<HashMap<TopicPartition, (Tag, Feeder)>>,
    commands: Sender<Command>,
    /// Assignments still to come from librdkafka since partitions were given back.
    pub(crate) owed: AtomicU8,
}

impl Shared {
    pub(crate) fn new(
        polled: PolledConsumer,
        ownership: Arc<Ownership>,
        commands: Sender<Command>,
    ) -> Self {
        Self {
            polled,
            ownership,
            feeders: Mutex::default(),
            commands,
            owed: AtomicU8::new(0),
        }
    }

    pub(crate) fn feeders(&self) -> MutexGuard<'_, HashMap<TopicPartition, (Tag, Feeder)>> {
        self.feeders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn feeder(&self, partition: &TopicPartition) -> Option<(TopicPartition, Feeder)> {
        self.feeders()
            .get_key_value(partition)
            .map(|(name, (_, feeder))| (name.clone(), feeder.clone()))
    }

    /// Sends a command to the poll thread. If that thread has ended, the command is dropped, and its answer channel too.
    pub(crate) fn command(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.polled.wake();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("ownership", &self.ownership)
            .finish_non_exhaustive()
    }
}

/// Partitions without offsets, in the form of the client.
pub(crate) fn list<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}
