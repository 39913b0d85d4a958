//! Reads the group's committed offset.

use std::time::Duration;

use rdkafka::Offset as Position;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use taskhost_core::record::TopicPartition;
use taskhost_core::watermark::Watermark;

use super::context::Logging;
use super::ffi::list::metadata_of_first;
use crate::log::{Error, Result};

/// Reads it from the group's coordinator. While a transaction is pending that would change it, the
/// broker has no stable answer, and the call times out.
pub(crate) fn read(
    client: &BaseConsumer<Logging>,
    partition: &TopicPartition,
    patience: Duration,
) -> Result<Watermark> {
    const DOING: &str = "reading the committed offset";
    let mut list = TopicPartitionList::new();
    list.add_partition(&partition.topic, partition.partition);
    let list = client.committed_offsets(list, patience).map_err(|error| {
        match error.rdkafka_error_code() {
            Some(code) => Error::code(DOING, code),
            None => Error::kafka(DOING, &error),
        }
    })?;
    let elements = list.elements();
    let Some(element) = elements.first() else {
        return Err(Error::code(DOING, RDKafkaErrorCode::NoOffset));
    };
    element
        .error()
        .map_err(|error: KafkaError| Error::kafka(DOING, &error))?;
    match element.offset() {
        Position::Offset(offset) => Ok(Watermark::parse(offset, &metadata_of_first(&list))),
        _ => Ok(Watermark::None),
    }
}
