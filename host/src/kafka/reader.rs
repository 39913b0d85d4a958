//! Reads a topic as a `read_committed` reader that joins no group and commits nothing.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as Position, TopicPartitionList};
use taskhost_core::record::{Message, Offset};
use uuid::Uuid;

use super::Settings;
use super::context::{self, Logging};
use super::ffi::events::Content;
use super::ffi::native::PolledConsumer;
use crate::log::{Disposition, Error, Result};

/// All partitions of a topic, assigned without a group.
pub(super) struct Reader {
    consumer: PolledConsumer,
    topic: Arc<str>,
    doing: &'static str,
}

/// One partition's log when the reader began.
pub(super) struct Bounds {
    pub(super) partition: i32,
    pub(super) low: Offset,
    pub(super) high: Offset,
}

/// What came.
pub(super) enum Came {
    Message(Message),
    /// The end of a partition.
    End(i32),
    /// Something that is no message.
    Other,
    /// Nothing, in that time.
    Nothing,
}

impl Reader {
    /// Begins in each partition at the place that `from` chooses. Blocks for up to `patience` for each partition.
    ///
    /// # Errors
    /// If the topic doesn't exist or the broker doesn't answer.
    pub(super) fn start(
        settings: &Settings,
        topic: &str,
        patience: Duration,
        doing: &'static str,
        from: impl Fn(&Bounds) -> Offset,
    ) -> Result<(Self, Vec<Bounds>)> {
        let error = |error| Error::kafka(doing, &error);
        let mut config = settings.for_consumer();
        // librdkafka assigns only in a group.
        config.set("group.id", format!("taskhost-reader-{}", Uuid::new_v4()));
        let client: BaseConsumer<Logging> = config.create_with_context(Logging).map_err(error)?;
        let consumer = PolledConsumer::new(client)?;
        let client = consumer.client();
        let metadata = client
            .fetch_metadata(Some(topic), patience)
            .map_err(error)?;
        let (mut list, mut all) = (TopicPartitionList::new(), Vec::new());
        for partition in metadata.topics().iter().flat_map(|one| one.partitions()) {
            let partition = partition.id();
            let (low, high) = client
                .fetch_watermarks(topic, partition, patience)
                .map_err(error)?;
            let bounds = Bounds {
                partition,
                low,
                high,
            };
            list.add_partition_offset(topic, partition, Position::Offset(from(&bounds)))
                .map_err(error)?;
            all.push(bounds);
        }
        if all.is_empty() {
            let reason = format!("{topic} does not exist");
            return Err(Error::new(doing, Disposition::UnknownTopic, reason));
        }
        client.assign(&list).map_err(error)?;
        let reader = Self {
            consumer,
            topic: topic.into(),
            doing,
        };
        Ok((reader, all))
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Waits for whatever comes next.
    ///
    /// # Errors
    /// If a partition can't be read.
    pub(super) fn next(&self, patience: Duration) -> Result<Came> {
        let Some(event) = self.consumer.poll(patience) else {
            return Ok(Came::Nothing);
        };
        match event.content() {
            Content::Fetched(fetched) => {
                return Ok(Came::Message(fetched.to_message(self.topic.clone())));
            }
            Content::Error(report) => match report.partition {
                Some((end, _)) if report.code == RDKafkaErrorCode::PartitionEOF => {
                    return Ok(Came::End(end.partition));
                }
                Some(_) => {
                    let disposition = Error::code(self.doing, report.code).disposition();
                    return Err(Error::new(self.doing, disposition, report.reason));
                }
                None if report.code == RDKafkaErrorCode::PartitionEOF => {}
                None => tracing::warn!("{}", report.reason),
            },
            Content::Log {
                level,
                facility,
                text,
            } => context::log(level, &facility, &text),
            Content::Rebalance { .. } | Content::Reports(_) | Content::Other => {}
        }
        Ok(Came::Other)
    }
}
