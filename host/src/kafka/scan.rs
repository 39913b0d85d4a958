//! Reads everything that a topic has now, from its beginning to its current end.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use taskhost_core::record::Message;

use super::Settings;
use super::reader::{Came, Reader};
use crate::log::{Disposition, Error, Result};

const DOING: &str = "reading a topic from its beginning";

/// A reader that joins no group and commits nothing.
pub struct Scan {
    reader: Reader,
    /// Partitions whose end is not reached yet.
    open: HashSet<i32>,
    patience: Duration,
    /// The number of offsets from the beginnings to the ends: an upper bound of the number of records.
    offsets: u64,
}

impl Scan {
    /// Begins at the beginning of each partition. Blocks for up to `patience` for each partition.
    ///
    /// # Errors
    /// If the topic doesn't exist or the broker doesn't answer.
    pub fn start(settings: &Settings, topic: &str, patience: Duration) -> Result<Self> {
        let (reader, all) = Reader::start(settings, topic, patience, DOING, |bounds| bounds.low)?;
        let filled = || all.iter().filter(|bounds| bounds.high > bounds.low);
        Ok(Self {
            reader,
            open: filled().map(|bounds| bounds.partition).collect(),
            patience,
            offsets: filled()
                .map(|bounds| bounds.high.abs_diff(bounds.low))
                .sum(),
        })
    }

    /// An upper bound of the number of records to read.
    pub fn offsets(&self) -> u64 {
        self.offsets
    }

    /// The next message; none once every partition's end was reached.
    ///
    /// # Errors
    /// If a partition can't be read, or nothing comes for longer than a broker may take.
    pub fn read(&mut self) -> Result<Option<Message>> {
        let deadline = Instant::now() + self.patience;
        while !self.open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.reader.next(left)? {
                Came::Message(message) => return Ok(Some(message)),
                Came::End(partition) => {
                    self.open.remove(&partition);
                }
                Came::Nothing if left.is_zero() => {
                    let reason = format!(
                        "the end of {} is not reached within {} s",
                        self.reader.topic(),
                        self.patience.as_secs()
                    );
                    return Err(Error::new(DOING, Disposition::Trouble, reason));
                }
                Came::Other | Came::Nothing => {}
            }
        }
        Ok(None)
    }
}

/// Everything that a topic has; each partition's messages are in order. Blocks.
///
/// # Errors
/// If the topic doesn't exist, or nothing comes for `patience` before its end is reached.
pub fn read_committed(
    settings: &Settings,
    topic: &str,
    patience: Duration,
) -> Result<Vec<Message>> {
    let mut scan = Scan::start(settings, topic, patience)?;
    std::iter::from_fn(|| scan.read().transpose()).collect()
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("topic", &self.reader.topic())
            .finish_non_exhaustive()
    }
}
