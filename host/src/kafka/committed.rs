//! Reads the group's committed offset.

use std::time::Duration;

use rdkafka::Offset as Position;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use taskhost_core::record::TopicPartition;
use taskhost_core::watermark::Watermark;

use super::context::Logging;
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
        Position::Offset(offset) => Ok(Watermark::parse(offset, &raw_metadata(&list))),
        _ => Ok(Watermark::None),
    }
}

/// The first element's metadata; the crate's own reader panics on what isn't UTF-8.
#[expect(unsafe_code, reason = "librdkafka's C interface")]
fn raw_metadata(list: &TopicPartitionList) -> String {
    // SAFETY: the list is alive and has an element, as the caller has seen; its metadata is null or as
    // long as it says.
    unsafe {
        let element = &*(*list.ptr()).elems;
        if element.metadata.is_null() {
            return String::new();
        }
        let bytes =
            std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size);
        String::from_utf8_lossy(bytes)
            .trim_end_matches('\0')
            .to_owned()
    }
}
