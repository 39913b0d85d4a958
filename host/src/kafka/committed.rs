//! The group's committed offset. Its metadata has the number of the last published batch of the partition.
//!
//! Written form: `taskhost/1 <batch>`, in decimal. Other consumers write other metadata, or none. Metadata that begins like
//! ours and can't be read are from a newer taskhost or damaged; the host doesn't guess their meaning.

use std::time::Duration;

use rdkafka::Offset as Position;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use taskhost_core::frame::BatchNumber;
use taskhost_core::record::{Offset, TopicPartition};
use taskhost_core::recovery::Watermark;

use super::context::Logging;
use super::error::{Error, Result};

/// The beginning of every taskhost's metadata.
const NAME: &str = "taskhost/";

/// The beginning of this version's metadata.
const PREFIX: &str = "taskhost/1 ";

/// The offset that the group has committed for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// No offset: none was committed, or it has expired.
    None,
    /// An offset that another kind of consumer committed.
    Foreign {
        /// The next record that it would have read.
        offset: Offset,
    },
    /// An offset that a taskhost committed, with metadata that can't be read.
    Unreadable {
        /// The offset.
        offset: Offset,
    },
    /// An offset that a taskhost committed.
    Ours {
        /// The next record to decide after that batch.
        offset: Offset,
        /// The watermark: the last batch that is published.
        batch: BatchNumber,
    },
}

impl Committed {
    /// The watermark, if there is one.
    pub fn watermark(&self) -> Option<BatchNumber> {
        match self {
            Self::Ours { batch, .. } => Some(*batch),
            _ => None,
        }
    }
}

impl From<Committed> for Watermark {
    fn from(committed: Committed) -> Self {
        match committed {
            Committed::None => Self::None,
            Committed::Foreign { offset } => Self::Foreign(offset),
            Committed::Unreadable { offset } => Self::Unreadable(offset),
            Committed::Ours { offset, batch } => Self::Ours { offset, batch },
        }
    }
}

/// The metadata of a batch's offset.
pub(crate) fn metadata(batch: BatchNumber) -> String {
    format!("{PREFIX}{batch}")
}

fn parse(offset: Offset, metadata: &str) -> Committed {
    match metadata
        .strip_prefix(PREFIX)
        .and_then(|text| text.parse().ok())
        .filter(|batch| *batch >= 0)
    {
        Some(batch) => Committed::Ours { offset, batch },
        None if metadata.starts_with(NAME) => Committed::Unreadable { offset },
        None => Committed::Foreign { offset },
    }
}

/// Reads it from the group's coordinator. While a transaction is pending that would change it, the
/// broker has no stable answer, and the call times out.
pub(crate) fn read(
    client: &BaseConsumer<Logging>,
    partition: &TopicPartition,
    patience: Duration,
) -> Result<Committed> {
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
        Position::Offset(offset) => Ok(parse(offset, &raw_metadata(&list))),
        _ => Ok(Committed::None),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_from_its_metadata() {
        for batch in [0, 1, BatchNumber::MAX] {
            assert_eq!(
                parse(5, &metadata(batch)),
                Committed::Ours { offset: 5, batch }
            );
        }
    }

    #[test]
    fn the_metadata_of_others_is_foreign() {
        for text in ["", "7", "taskhost", "{\"batch\":7}"] {
            assert_eq!(parse(5, text), Committed::Foreign { offset: 5 }, "{text}");
        }
    }

    #[test]
    fn what_begins_like_ours_and_can_t_be_read_is_told_apart() {
        for text in [
            "taskhost/2 7",
            "taskhost/1 ",
            "taskhost/1 -1",
            "taskhost/1 7 ",
        ] {
            let unreadable = Committed::Unreadable { offset: 5 };
            assert_eq!(parse(5, text), unreadable, "{text}");
        }
    }
}
