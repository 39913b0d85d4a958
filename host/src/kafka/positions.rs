//! The offsets of a group and the bounds of a log, for commands. The client is not a member of the group.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use taskhost_core::record::{Offset, TopicPartition};
use taskhost_core::watermark::Watermark;

use super::Settings;
use super::committed;
use super::context::Logging;
use crate::log::{Error, Result};

/// Reads offsets. It never joins the group, so it disturbs no member.
pub struct Positions {
    client: BaseConsumer<Logging>,
    patience: Duration,
}

impl Positions {
    /// A client whose questions each take at most `patience`.
    ///
    /// # Errors
    /// If a setting is wrong; nothing is connected yet.
    pub fn new(settings: &Settings, patience: Duration) -> Result<Self> {
        let client = settings
            .for_consumer()
            .create_with_context(Logging)
            .map_err(|error| Error::kafka("starting a client", &error))?;
        Ok(Self { client, patience })
    }

    /// The offset that the group has committed for a partition. Blocks.
    ///
    /// # Errors
    /// If the group's coordinator doesn't answer or refuses.
    pub fn committed(&self, partition: &TopicPartition) -> Result<Watermark> {
        committed::read(&self.client, partition, self.patience)
    }

    /// The first offset in the log, and its stable end. Blocks.
    ///
    /// # Errors
    /// If the broker doesn't answer or the partition doesn't exist.
    pub fn log_bounds(&self, partition: &TopicPartition) -> Result<(Offset, Offset)> {
        self.client
            .fetch_watermarks(&partition.topic, partition.partition, self.patience)
            .map_err(|error| Error::kafka("reading the log's bounds", &error))
    }
}

impl std::fmt::Debug for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Positions")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
