//! The group's committed offset. Its metadata has the number of the last published batch of the partition.
//!
//! Written form: `taskhost/1 <batch>`, in decimal. Other consumers write other metadata, or none. Metadata that begins like
//! ours and can't be read are from a newer taskhost or damaged; the host doesn't guess their meaning.

use taskhost_core::frame::BatchNumber;
use taskhost_core::record::Offset;
use taskhost_core::recovery::Watermark;

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
    /// The metadata of a batch's offset.
    pub fn metadata(batch: BatchNumber) -> String {
        format!("{PREFIX}{batch}")
    }

    /// An offset by its metadata.
    pub fn parse(offset: Offset, metadata: &str) -> Self {
        let batch = metadata.strip_prefix(PREFIX);
        let batch = batch.and_then(|text| text.parse().ok());
        match batch.filter(|batch| *batch >= 0) {
            Some(batch) => Self::Ours { offset, batch },
            None if metadata.starts_with(NAME) => Self::Unreadable { offset },
            None => Self::Foreign { offset },
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_from_its_metadata() {
        for batch in [0, 1, BatchNumber::MAX] {
            assert_eq!(
                Committed::parse(5, &Committed::metadata(batch)),
                Committed::Ours { offset: 5, batch }
            );
        }
    }

    #[test]
    fn the_metadata_of_others_is_foreign() {
        for text in ["", "7", "taskhost", "{\"batch\":7}"] {
            assert_eq!(
                Committed::parse(5, text),
                Committed::Foreign { offset: 5 },
                "{text}"
            );
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
            assert_eq!(Committed::parse(5, text), unreadable, "{text}");
        }
    }
}
