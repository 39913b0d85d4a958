//! How far a partition's outbox is published: the group's committed offset, and what its metadata says.
//!
//! Written form of the metadata: `taskhost/2 <batch> <token>`, or without a token `taskhost/1 <batch>`, as before there were
//! tokens. Other consumers write other metadata, or none. Metadata that begins like ours and can't be read are from a newer
//! taskhost or damaged; their meaning is not guessed.

use uuid::Uuid;

use crate::frame::BatchNumber;
use crate::record::Offset;

/// The beginning of every taskhost's metadata.
const NAME: &str = "taskhost/";

/// The beginning of metadata without a token.
const PLAIN: &str = "taskhost/1 ";

/// The beginning of metadata with a token.
const WITH_TOKEN: &str = "taskhost/2 ";

/// What the group's committed offset says: how far the outbox is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// No offset: none was committed, or it has expired.
    None,
    /// An offset that another consumer committed.
    Foreign(Offset),
    /// An offset with metadata of ours that can't be read: of a newer taskhost, or damaged.
    Unreadable(Offset),
    /// An offset of ours.
    Ours(Mark),
}

/// A batch as the group's offset names it: every frame up to it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The batch.
    pub batch: BatchNumber,
    /// The next record to decide after it.
    pub offset: Offset,
    /// The token of the attempt that committed it, where that is known.
    pub token: Option<Uuid>,
}

impl Mark {
    /// The metadata of its offset.
    pub fn metadata(&self) -> String {
        match self.token {
            Some(token) => format!("{WITH_TOKEN}{} {token}", self.batch),
            None => format!("{PLAIN}{}", self.batch),
        }
    }

    /// Whether the batch was committed by another attempt than the one with this token.
    pub fn is_of_another_attempt(&self, token: Option<Uuid>) -> bool {
        matches!((self.token, token), (Some(mine), Some(other)) if mine != other)
    }
}

impl Watermark {
    /// A committed offset by its metadata.
    pub fn parse(offset: Offset, metadata: &str) -> Self {
        let named = match metadata.strip_prefix(WITH_TOKEN) {
            Some(text) => text.split_once(' ').and_then(|(batch, token)| {
                let token = Uuid::try_parse(token).ok()?;
                Some((batch.parse().ok()?, Some(token)))
            }),
            None => metadata
                .strip_prefix(PLAIN)
                .and_then(|text| Some((text.parse().ok()?, None))),
        };
        match named.filter(|(batch, _)| *batch >= 0) {
            Some((batch, token)) => Self::Ours(Mark {
                batch,
                offset,
                token,
            }),
            None if metadata.starts_with(NAME) => Self::Unreadable(offset),
            None => Self::Foreign(offset),
        }
    }

    /// The last published batch, if the offset is ours.
    pub fn batch(&self) -> Option<BatchNumber> {
        match self {
            Self::Ours(mark) => Some(mark.batch),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_and_its_token_come_back_from_the_metadata() {
        for batch in [0, 1, BatchNumber::MAX] {
            for token in [None, Some(Uuid::from_u128(7))] {
                let mark = Mark {
                    batch,
                    offset: 5,
                    token,
                };
                assert_eq!(Watermark::parse(5, &mark.metadata()), Watermark::Ours(mark));
            }
        }
    }

    #[test]
    fn the_metadata_of_others_is_foreign() {
        for text in ["", "7", "taskhost", "{\"batch\":7}"] {
            assert_eq!(Watermark::parse(5, text), Watermark::Foreign(5), "{text}");
        }
    }

    #[test]
    fn what_begins_like_ours_and_can_t_be_read_is_told_apart() {
        for text in [
            "taskhost/3 7",
            "taskhost/2 7",
            "taskhost/2 7 garbage",
            "taskhost/2 -1 00000000-0000-0000-0000-000000000007",
            "taskhost/1 ",
            "taskhost/1 -1",
            "taskhost/1 7 ",
            "taskhost/1 7 00000000-0000-0000-0000-000000000007",
        ] {
            assert_eq!(
                Watermark::parse(5, text),
                Watermark::Unreadable(5),
                "{text}"
            );
        }
    }
}
