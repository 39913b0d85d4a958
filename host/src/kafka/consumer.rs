//! The group's consumer: one for the host, served by its own thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use rdkafka::Offset as Position;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use taskhost_core::record::{Offset, TopicPartition};
use taskhost_core::watermark::Watermark;
use tokio::sync::{mpsc, oneshot, watch};

use super::committed;
use super::context::Logging;
use super::ffi::group::Membership;
use super::ffi::native::{CallError, PolledConsumer};
use super::membership::{Assignment, Command, Shared, list};
use super::nudge::Nudge;
use super::poll::PollThread;
use super::rebootstrap::Rebootstrap;
use super::{Settings, is_classic};
use crate::background::{Background, Duty};
use crate::log::{Disposition, Error, Result};
use crate::log::{Ownership, Tag};

/// The thread that polls.
const POLL: Duty = Duty {
    name: "kafka-poll",
    without: "nothing is consumed",
};

/// The consumer.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    /// True when the poll thread has ended.
    ended: watch::Receiver<bool>,
    _watch: Rebootstrap,
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
        let shared = Arc::new(Shared::new(polled, ownership, commands));
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
    pub fn committed(&self, partition: &TopicPartition, patience: Duration) -> Result<Watermark> {
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
