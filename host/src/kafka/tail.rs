//! Reads the messages that arrive on a topic from now on, as a `read_committed` reader: for commands that wait for an
//! answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as Position, TopicPartitionList};
use taskhost_core::record::Message;
use uuid::Uuid;

use super::Settings;
use super::context::{self, Logging};
use super::ffi::events::Content;
use super::ffi::native::PolledConsumer;
use crate::log::{Disposition, Error, Result};

const DOING: &str = "reading a topic";

/// A reader that joins no group and commits nothing.
pub struct Tail {
    reader: PolledConsumer,
    topic: Arc<str>,
}

impl Tail {
    /// Begins at the present end of each partition: what is sent after this has returned is read. Blocks for
    /// up to `patience` for each partition.
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
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let (_, end) = reader
                .client()
                .fetch_watermarks(topic, partition.id(), patience)
                .map_err(error)?;
            list.add_partition_offset(topic, partition.id(), Position::Offset(end))
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
        })
    }

    /// The next message; none if `patience` ends first.
    ///
    /// # Errors
    /// If a partition can't be read.
    pub fn next(&self, patience: Duration) -> Result<Option<Message>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self
                .reader
                .poll(left)
                .as_ref()
                .map(super::ffi::events::Event::content)
            {
                Some(Content::Fetched(fetched)) => {
                    return Ok(Some(fetched.to_message(self.topic.clone())));
                }
                Some(Content::Error(report)) if report.code == RDKafkaErrorCode::PartitionEOF => {}
                Some(Content::Error(report)) if report.partition.is_some() => {
                    let disposition = Error::code(DOING, report.code).disposition();
                    return Err(Error::new(DOING, disposition, report.reason));
                }
                Some(Content::Error(report)) => tracing::warn!("{}", report.reason),
                Some(Content::Log {
                    level,
                    facility,
                    text,
                }) => {
                    context::log(level, &facility, &text);
                }
                Some(Content::Rebalance { .. } | Content::Reports(_) | Content::Other) => {}
                None => {}
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
