//! The outbox frame: a committed batch's outgoing records, as stored until Kafka has them.
//!
//! Stored form: one byte with the format's number, then the [`Frame`] in postcard's encoding
//! (<https://postcard.jamesmunns.com/wire-format>). A host refuses a number it doesn't know, so that a
//! rollback to an older host never misreads a newer frame.

use serde::{Deserialize, Serialize};

use crate::record::{Offset, Record};

/// Number of a partition's committed batch. 0 is the first, which has no records.
pub type BatchNumber = i64;

/// What publishing one batch means: its records, and how far the group's offset moves with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The batch it belongs to.
    pub batch: BatchNumber,
    /// The next record to decide after this batch: the offset that is committed with it.
    pub next_offset: Offset,
    /// The records in order.
    pub records: Vec<Record>,
}

/// The format that [`Frame::encode`] writes.
const FORMAT: u8 = 1;

impl Frame {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        // Writing to a growing vector of plain data has no way to fail.
        postcard::to_extend(self, vec![FORMAT]).unwrap_or_default()
    }

    /// Reads the stored form back.
    ///
    /// # Errors
    /// If the bytes are of another format or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(FrameError::Damaged),
            Some((&format, _)) => Err(FrameError::Format { format }),
            None => Err(FrameError::Empty),
        }
    }

    /// Bytes of its records, against the bounds on transactions.
    pub fn size(&self) -> usize {
        self.records.iter().map(Record::size).sum()
    }
}

/// Why a stored frame can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Another format than this host knows.
    #[error(
        "outbox frame has format {format}, this host reads format {FORMAT}; run the version that wrote it"
    )]
    Format {
        /// The number found.
        format: u8,
    },
    /// No bytes at all.
    #[error("outbox frame is empty")]
    Empty,
    /// The bytes don't decode.
    #[error("outbox frame is damaged")]
    Damaged(#[source] postcard::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frame_comes_back_as_it_was_stored(
            batch in 0i64..,
            next_offset in 0i64..,
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
            name in ".{0,20}",
        ) {
            let record = Record { topic: "t".into(), key, value, headers: vec![(name, None)], timestamp: Some(5) };
            let frame = Frame { batch, next_offset, records: vec![record; 3] };
            prop_assert_eq!(Frame::decode(&frame.encode()).unwrap(), frame);
        }

        #[test]
        fn garbage_is_refused_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Frame::decode(&bytes);
        }
    }

    #[test]
    fn a_frame_of_a_newer_format_is_refused() {
        assert!(matches!(
            Frame::decode(&[9, 1, 2]),
            Err(FrameError::Format { format: 9 })
        ));
    }
}
