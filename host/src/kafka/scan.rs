//! Reads everything that a topic has now, from its beginning to its current end, as a `read_committed` reader.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as Position, TopicPartitionList};
use taskhost_core::record::{Message, TopicPartition};
use uuid::Uuid;

use super::Settings;
use super::context::{self, Logging};
use super::ffi::events::Content;
use super::ffi::native::PolledConsumer;
use crate::log::{Disposition, Error, Result};

const DOING: &str = "reading a topic from its beginning";

/// A reader that joins no group and commits nothing.
pub struct Scan {
    reader: PolledConsumer,
    topic: Arc<str>,
    /// Partitions whose end is not reached yet.
    open: HashSet<i32>,
    patience: Duration,
    /// The number of offsets from the beginnings to the ends: an upper bound of the number of records.
    offsets: u64,
}

impl Scan {
    /// Begins at the beginning of each partition. Blocks for up to `patience` for each partition.
    ///
    /// # Errors
    /// If the topic doesn't exist or the broker doesn't answer.
    pub fn start(settings: &Settings, topic: &str, patience: Duration) -> Result<Self> {
        let error = |error| Error::kafka(DOING, &error);
        let mut config = settings.for_consumer();
        // librdkafka assigns only in a group.
        config.set("group.id", format!("taskhost-reader-{}", Uuid::new_v4()));
        let client: BaseConsumer<Logging> = config.create_with_context(Logging).map_err(error)?;
        let reader = PolledConsumer::new(client)?;
        let metadata = reader
            .client()
            .fetch_metadata(Some(topic), patience)
            .map_err(error)?;
        let mut list = TopicPartitionList::new();
        let (mut open, mut offsets) = (HashSet::new(), 0);
        for partition in metadata.topics().iter().flat_map(|one| one.partitions()) {
            let (low, high) = reader
                .client()
                .fetch_watermarks(topic, partition.id(), patience)
                .map_err(error)?;
            if high > low {
                open.insert(partition.id());
                offsets += high.abs_diff(low);
            }
            list.add_partition_offset(topic, partition.id(), Position::Offset(low))
                .map_err(error)?;
        }
        if list.count() == 0 {
            let reason = format!("{topic} does not exist");
            return Err(Error::new(DOING, Disposition::UnknownTopic, reason));
        }
        reader.client().assign(&list).map_err(error)?;
        Ok(Self {
            reader,
            topic: topic.into(),
            open,
            patience,
            offsets,
        })
    }

    /// An upper bound of the number of records to read.
    pub fn offsets(&self) -> u64 {
        self.offsets
    }

    /// The next message; none once every partition's end was reached.
    ///
    /// # Errors
    /// If a partition can't be read, or nothing comes for longer than a broker may take.
    pub fn read(&mut self) -> Result<Option<Message>> {
        let deadline = Instant::now() + self.patience;
        while !self.open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.reader.poll(left);
            match event.as_ref().map(super::ffi::events::Event::content) {
                Some(Content::Fetched(fetched)) => {
                    return Ok(Some(fetched.to_message(self.topic.clone())));
                }
                Some(Content::Error(report)) if report.code == RDKafkaErrorCode::PartitionEOF => {
                    if let Some((TopicPartition { partition, .. }, _)) = report.partition {
                        self.open.remove(&partition);
                    }
                }
                Some(Content::Error(report)) if report.partition.is_some() => {
                    let disposition = Error::code(DOING, report.code).disposition();
                    return Err(Error::new(DOING, disposition, report.reason));
                }
                Some(Content::Error(report)) => tracing::warn!("{}", report.reason),
                Some(Content::Log {
                    level,
                    facility,
                    text,
                }) => context::log(level, &facility, &text),
                Some(Content::Rebalance { .. } | Content::Reports(_) | Content::Other) => {}
                None if left.is_zero() => {
                    let reason = format!(
                        "the end of {} is not reached within {} s",
                        self.topic,
                        self.patience.as_secs()
                    );
                    return Err(Error::new(DOING, Disposition::Trouble, reason));
                }
                None => {}
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
