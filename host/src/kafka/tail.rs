//! Reads the messages that arrive on a topic from now on: for commands that wait for an answer.

use std::time::{Duration, Instant};

use taskhost_core::record::Message;

use super::Settings;
use super::reader::{Came, Reader};
use crate::log::Result;

const DOING: &str = "reading a topic";

/// A reader that joins no group and commits nothing.
pub struct Tail {
    reader: Reader,
}

impl Tail {
    /// Begins at the present end of each partition: what is sent after this has returned is read. Blocks for
    /// up to `patience` for each partition.
    ///
    /// # Errors
    /// If the topic doesn't exist or the broker doesn't answer.
    pub fn start(settings: &Settings, topic: &str, patience: Duration) -> Result<Self> {
        let (reader, _) = Reader::start(settings, topic, patience, DOING, |bounds| bounds.high)?;
        Ok(Self { reader })
    }

    /// The next message; none if `patience` ends first.
    ///
    /// # Errors
    /// If a partition can't be read.
    pub fn next(&self, patience: Duration) -> Result<Option<Message>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Came::Message(message) = self.reader.next(left)? {
                return Ok(Some(message));
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
            .field("topic", &self.reader.topic())
            .finish_non_exhaustive()
    }
}
