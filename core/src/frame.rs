//! The outbox frame: a committed batch's outgoing records, as stored until Kafka has them.
//!
//! Stored form: one byte with the format's number, then the [`Frame`] in postcard's encoding
//! (<https://postcard.jamesmunns.com/wire-format>), in format 2 compressed with Zstandard (RFC 8878): a batch's records
//! are much alike, so it is a fraction of what Postgres would write, and write again to its log. A host refuses a number it doesn't know, so that a
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

/// Postcard.
const PLAIN: u8 = 1;

/// Postcard, compressed: what [`Frame::encode`] writes.
const COMPRESSED: u8 = 2;

/// Zstandard's quickest level but for the negative ones: what takes more time saves little more.
const LEVEL: i32 = 1;

/// Bytes of a record besides its key, value and headers, about: their lengths, and the topic.
const RECORD_OVERHEAD: usize = 64;

impl Frame {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        // Writing to a growing vector of plain data has no way to fail.
        let plain = Vec::with_capacity(self.size() + RECORD_OVERHEAD * self.records.len() + 32);
        let plain = postcard::to_extend(self, plain).unwrap_or_default();
        let (format, stored) = match zstd::bulk::compress(&plain, LEVEL) {
            Ok(compressed) => (COMPRESSED, compressed),
            Err(_) => (PLAIN, plain),
        };
        [&[format], stored.as_slice()].concat()
    }

    /// Reads the stored form back.
    ///
    /// # Errors
    /// If the bytes are of another format or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        match bytes.split_first() {
            Some((&PLAIN, rest)) => postcard::from_bytes(rest).map_err(FrameError::Damaged),
            Some((&COMPRESSED, rest)) => {
                let plain = zstd::stream::decode_all(rest).map_err(FrameError::Unpacked)?;
                postcard::from_bytes(&plain).map_err(FrameError::Damaged)
            }
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
        "outbox frame has format {format}, this host reads formats {PLAIN} and {COMPRESSED}; run the version that wrote it"
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
    /// The bytes don't decompress.
    #[error("outbox frame is damaged")]
    Unpacked(#[source] std::io::Error),
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
    fn a_frame_of_an_earlier_host_is_read() {
        let record = Record {
            topic: "t".into(),
            key: Some(vec![1, 200]),
            value: None,
            headers: vec![("n".into(), Some(vec![7])), ("e".into(), None)],
            timestamp: None,
        };
        let bytes = [
            1, 6, 10, 1, 1, b't', 1, 2, 1, 200, 0, 2, 1, b'n', 1, 1, 7, 1, b'e', 0, 0,
        ];
        let frame = Frame {
            batch: 3,
            next_offset: 5,
            records: vec![record],
        };
        assert_eq!(Frame::decode(&bytes).unwrap(), frame);
    }

    #[test]
    fn records_that_are_alike_take_little() {
        let record = Record {
            topic: "task-events".into(),
            key: None,
            value: Some(vec![b'x'; 500]),
            headers: vec![],
            timestamp: None,
        };
        let records = vec![record; 500];
        let frame = Frame {
            batch: 1,
            next_offset: 1,
            records,
        };
        assert!(frame.encode().len() < frame.size() / 50);
    }

    #[test]
    fn a_frame_of_a_newer_format_is_refused() {
        assert!(matches!(
            Frame::decode(&[9, 1, 2]),
            Err(FrameError::Format { format: 9 })
        ));
    }
}
