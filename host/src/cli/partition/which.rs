//! A partition as a command names it.

use clap::Args;
use taskhost_core::record::TopicPartition;

use crate::cli::Failure;
use crate::cli::database::Database;
use crate::cli::routed::real_topic;
use crate::config::Config;
use crate::store::{Key, PartitionProgress};

/// A partition on the command line.
#[derive(Args, Clone, Debug)]
pub(super) struct Which {
    /// The topic, by its name in Kafka or in the routes.
    #[arg(requires = "partition")]
    topic: String,
    /// The partition's number.
    partition: i32,
}

impl Which {
    pub(super) fn partition(&self, config: &Config) -> TopicPartition {
        TopicPartition::new(&*real_topic(config, &self.topic), self.partition)
    }
}

/// A partition's row, which must be there.
pub(super) fn find(
    database: &Database,
    config: &Config,
    partition: &TopicPartition,
) -> Result<(Key, PartitionProgress), Failure> {
    let group = config.kafka.group_id.as_str();
    let all = database.ask(database.store.snapshot(group))?;
    let found = all.into_iter().find(|one| one.partition == *partition);
    let key = Key::new(group, partition.clone());
    found.map(|found| (key, found)).ok_or_else(|| {
        Failure::Failed(format!(
            "the group {group} has no partition {partition}; `taskhost partition list` shows its partitions"
        ))
    })
}
