//! Kafka for commands and tests: sends some records, reads a whole topic.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as Position, TopicPartitionList};
use taskhost_core::record::{Message, Record};
use uuid::Uuid;

use super::Settings;
use super::context::Logging;
use super::ffi::events::Content;
use super::ffi::native::PolledConsumer;
use super::reporting::Reporting;
use crate::log::{Disposition, Error, Result};

/// An idempotent producer without transactions.
pub struct Sender {
    producer: Reporting,
}

impl Sender {
    /// A producer; it connects when something is sent.
    ///
    /// # Errors
    /// If a setting is wrong.
    pub fn new(settings: &Settings) -> Result<Self> {
        let mut config = settings.for_producer();
        config.remove("transaction.timeout.ms");
        let producer = Reporting::new(&config)
            .map_err(|error| Error::kafka("starting the producer", &error))?;
        Ok(Self { producer })
    }

    /// Sends records in order and waits until the broker has them all. Blocks for up to `patience`.
    ///
    /// # Errors
    /// If one of them is refused or isn't delivered in time; others may have been.
    pub fn send(&self, records: &[Record], patience: Duration) -> Result<()> {
        const DOING: &str = "sending records";
        let deadline = Instant::now() + patience;
        for record in records {
            let produced = self.producer.produce(record, Some(deadline));
            produced.map_err(|code| Error::code(DOING, code))?;
        }
        while self.producer.is_busy() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    DOING,
                    Disposition::Trouble,
                    "the broker did not answer in time",
                ));
            }
            self.producer.await_event(left);
        }
        match self.producer.take().failed.first() {
            Some((topic, code)) => Err(Error::new(
                DOING,
                Error::code(DOING, *code).disposition(),
                format!("{topic}: {code}"),
            )),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// What is being done, for errors.
const DOING: &str = "reading a topic";

/// Reads a topic from its beginning to its end, as a `read_committed` reader sees it; each partition's
/// messages are in order. Blocks for up to `patience`.
///
/// # Errors
/// If the topic doesn't exist or its end isn't reached in time.
pub fn read_committed(
    settings: &Settings,
    topic: &str,
    patience: Duration,
) -> Result<Vec<Message>> {
    let deadline = Instant::now() + patience;
    let mut config = settings.for_consumer();
    // librdkafka assigns only in a group; nothing is joined, and nothing committed.
    config.set("group.id", format!("taskhost-reader-{}", Uuid::new_v4()));
    let client: BaseConsumer<Logging> = config
        .create_with_context(Logging)
        .map_err(|error| Error::kafka(DOING, &error))?;
    let reader = PolledConsumer::new(client)?;
    let mut open = assign_whole(&reader, topic, patience)?;
    let name: std::sync::Arc<str> = topic.into();
    let mut messages = Vec::new();
    while !open.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(
                DOING,
                Disposition::Trouble,
                format!("the end of {topic} is not reached in time"),
            ));
        }
        let Some(event) = reader.poll(left.min(Duration::from_millis(100))) else {
            continue;
        };
        match event.content() {
            Content::Fetched(fetched) => messages.push(fetched.to_message(name.clone())),
            Content::Error(report) => match report.partition {
                Some((partition, _)) if report.code == RDKafkaErrorCode::PartitionEOF => {
                    open.remove(&partition.partition);
                }
                Some(_) => {
                    return Err(Error::new(
                        DOING,
                        Error::code(DOING, report.code).disposition(),
                        report.reason,
                    ));
                }
                None => tracing::warn!("{}", report.reason),
            },
            Content::Log {
                level,
                facility,
                text,
            } => super::context::log(level, &facility, &text),
            Content::Rebalance { .. } | Content::Reports(_) | Content::Other => {}
        }
    }
    Ok(messages)
}

/// Assigns every partition of the topic from its beginning, and says which those are.
fn assign_whole(reader: &PolledConsumer, topic: &str, patience: Duration) -> Result<HashSet<i32>> {
    let metadata = reader
        .client()
        .fetch_metadata(Some(topic), patience)
        .map_err(|error| Error::kafka(DOING, &error))?;
    let mut open = HashSet::new();
    let mut list = TopicPartitionList::new();
    for partition in metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions())
    {
        list.add_partition_offset(topic, partition.id(), Position::Beginning)
            .map_err(|error| Error::kafka(DOING, &error))?;
        open.insert(partition.id());
    }
    if open.is_empty() {
        return Err(Error::new(
            DOING,
            Disposition::UnknownTopic,
            format!("{topic} does not exist"),
        ));
    }
    reader
        .client()
        .assign(&list)
        .map_err(|error| Error::kafka(DOING, &error))?;
    Ok(open)
}
