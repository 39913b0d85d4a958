//! The group's consumer: one for the host, served by its own thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::Offset as Position;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use taskhost_core::record::{Offset, TopicPartition};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::committed;
use super::context::Logging;
use super::error::{Disposition, Error, Result};
use super::ffi::group::Membership;
use super::ffi::native::{CallError, PolledConsumer};
use super::nudge::Nudge;
use super::poll::{Command, PollThread, list};
use super::rebootstrap::Rebootstrap;
use super::{Settings, is_classic};
use crate::background::{Background, Duty};
use crate::log::{Committed, Feed, Feeder, Ownership, Tag};

/// The thread that polls.
const POLL: Duty = Duty {
    name: "kafka-poll",
    without: "nothing is consumed",
};

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

/// The consumer.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    /// True when the poll thread has ended.
    ended: watch::Receiver<bool>,
    _watch: Rebootstrap,
}

pub(crate) struct Shared {
    pub(crate) polled: PolledConsumer,
    pub(crate) ownership: Arc<Ownership>,
    feeders: Mutex<HashMap<TopicPartition, (Tag, Feeder)>>,
    commands: Sender<Command>,
    /// Assignments still to come from librdkafka since partitions were given back.
    pub(crate) owed: AtomicU8,
}

impl Consumer {
    /// Joins the group. Its assignments come through the channel.
    ///
    /// # Errors
    /// If a setting is wrong; nothing is connected yet.
    pub fn start(
        settings: &Settings,
        topics: &[&str],
        ownership: Arc<Ownership>,
        assignments: mpsc::UnboundedSender<Assignment>,
        background: &Background,
    ) -> Result<Self> {
        const DOING: &str = "starting the consumer";
        let config = settings.for_consumer();
        let client: BaseConsumer<Logging> = config
            .create_with_context(Logging)
            .map_err(|error| Error::kafka(DOING, &error))?;
        let (commands, received) = channel();
        let polled = PolledConsumer::new(client)?;
        polled
            .client()
            .subscribe(topics)
            .map_err(|error| Error::kafka("subscribing", &error))?;
        let shared = Arc::new(Shared {
            polled,
            ownership,
            feeders: Mutex::default(),
            commands,
            owed: AtomicU8::new(0),
        });
        let thread = PollThread {
            nudge: Nudge::start(&shared, background)?,
            shared: Arc::clone(&shared),
            commands: received,
            assignments,
            latest: None,
            closing: false,
            group: settings.group.clone(),
            is_classic: is_classic(&config),
        };
        let (end, ended) = watch::channel(false);
        let polling = move || {
            thread.run();
            end.send_replace(true);
        };
        background
            .thread(POLL, polling)
            .map_err(|error| Error::new(DOING, Disposition::Fatal, error.to_string()))?;
        let watch = Rebootstrap::watch(&shared, |shared| shared.polled.client().client(), &config);
        Ok(Self {
            shared,
            ended,
            _watch: watch,
        })
    }

    /// Begins to read a partition at an offset. False if the tag is no longer valid. A partition that is already being read
    /// has to be removed first.
    ///
    /// # Errors
    /// If librdkafka refuses it.
    pub fn add(&self, partition: &TopicPartition, offset: Offset, tag: Tag) -> Result<bool> {
        const DOING: &str = "adding a partition";
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(
            &partition.topic,
            partition.partition,
            Position::Offset(offset),
        )
        .map_err(|error| Error::kafka(DOING, &error))?;
        let held = self.shared.ownership.lock();
        if !held.holds(partition, tag) {
            return Ok(false);
        }
        let Some((_, feeder)) = self.shared.feeder(partition) else {
            return Ok(false);
        };
        feeder.start();
        let client = self.shared.polled.client();
        client.incremental_assign(&list).map_err(|error| {
            feeder.stop();
            Error::kafka(DOING, &error)
        })?;
        // A partition that was revoked while it was paused is assigned paused.
        client
            .resume(&list)
            .map_err(|error| Error::kafka(DOING, &error))?;
        Ok(true)
    }

    /// Stops reading a partition that stays assigned, and drops the messages that are fed but not taken. False if the tag is
    /// no longer valid. The partition can be added again, at any offset.
    ///
    /// # Errors
    /// If librdkafka refuses it, or the consumer has ended.
    pub async fn remove(&self, partition: &TopicPartition, tag: Tag) -> Result<bool> {
        let (reply, answer) = oneshot::channel();
        self.shared
            .command(Command::Remove(partition.clone(), tag, reply));
        answer.await.unwrap_or_else(|_| {
            Err(Error::new(
                "removing a partition",
                Disposition::Fatal,
                "the consumer has ended",
            ))
        })
    }

    /// The offset that the group has committed for a partition. Blocks for at most `patience`.
    ///
    /// # Errors
    /// [`Disposition::Trouble`] also while a transaction that would change it is pending: ask again.
    pub fn committed(&self, partition: &TopicPartition, patience: Duration) -> Result<Committed> {
        committed::read(self.shared.polled.client(), partition, patience)
    }

    /// The first offset in the log, and its stable end: the next one that a `read_committed` reader may
    /// come to. Blocks.
    ///
    /// # Errors
    /// If the broker doesn't answer in time or the partition doesn't exist.
    pub fn log_bounds(
        &self,
        partition: &TopicPartition,
        patience: Duration,
    ) -> Result<(Offset, Offset)> {
        const DOING: &str = "reading the log's bounds";
        let client = self.shared.polled.client();
        let bounds = || client.fetch_watermarks(&partition.topic, partition.partition, patience);
        match bounds() {
            // The partition was just added to the topic: the assignor knows it, and this client has not read it yet.
            Err(error)
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) =>
            {
                let topic = Some(&*partition.topic);
                client
                    .fetch_metadata(topic, patience)
                    .and_then(|_| bounds())
            }
            other => other,
        }
        .map_err(|error| Error::kafka(DOING, &error))
    }

    /// The stable ends of several partitions, with one request for each broker. Blocks. Partitions whose
    /// leader gave no answer are missing.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub fn stable_ends(
        &self,
        partitions: &[TopicPartition],
        patience: Duration,
    ) -> Result<HashMap<TopicPartition, Offset>> {
        const DOING: &str = "reading the ends of partitions";
        if partitions.is_empty() {
            return Ok(HashMap::new());
        }
        let mut asked = list(partitions);
        asked
            .set_all_offsets(Position::End)
            .map_err(|error| Error::kafka(DOING, &error))?;
        let client = self.shared.polled.client();
        let answered = client
            .offsets_for_times(asked, patience)
            .map_err(|error| Error::kafka(DOING, &error))?;
        Ok(answered
            .elements()
            .iter()
            .filter(|element| element.error().is_ok())
            .filter_map(|element| match element.offset() {
                Position::Offset(offset) => Some((
                    TopicPartition::new(element.topic(), element.partition()),
                    offset,
                )),
                _ => None,
            })
            .collect())
    }

    /// Commits offsets with their metadata for the group, outside of any transaction. Blocks.
    pub(crate) fn commit(
        &self,
        offsets: &TopicPartitionList,
    ) -> std::result::Result<(), CallError> {
        let committed = self
            .shared
            .polled
            .client()
            .commit(offsets, CommitMode::Sync);
        committed.map_err(|error| CallError::abort(error.rdkafka_error_code(), error.to_string()))
    }

    /// Whether this consumer is a member of its group right now.
    pub fn is_member(&self) -> bool {
        self.membership().is_some()
    }

    /// Whether this consumer gives partitions back in a rebalance and has no new assignment yet. It asks to join for that, or
    /// is about to.
    pub fn is_rejoining(&self) -> bool {
        self.shared.owed.load(Ordering::Relaxed) > 0
    }

    /// The lock that this consumer's revoke handler takes.
    pub fn ownership(&self) -> &Arc<Ownership> {
        &self.shared.ownership
    }

    /// Leaves the group: every partition is revoked in order. False if that took longer than `deadline`. The session then
    /// expires by itself, and the process may still end.
    pub async fn close(&self, deadline: Duration) -> bool {
        self.shared.command(Command::Close);
        let mut ended = self.ended.clone();
        tokio::time::timeout(deadline, ended.wait_for(|ended| *ended))
            .await
            .is_ok()
    }

    pub(crate) fn membership(&self) -> Option<Membership> {
        Membership::of(&self.shared.polled)
    }
}

/// A dropped consumer leaves its group.
impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.command(Command::Close);
    }
}

impl Shared {
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
