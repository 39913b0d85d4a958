//! What people and mishaps do behind the hosts' backs: topics changed, offsets moved, rows put back.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::Client;
use crate::{PATIENCE, Watermark, World, soon};

/// Offsets of a group by real topic and partition.
type Offsets = BTreeMap<(String, i32), Option<Watermark>>;

impl World {
    /// Gives a topic more partitions: so many in all.
    pub fn add_partitions(&self, logical: &str, total: usize) {
        let topic = self.topic(logical);
        self.runtime.block_on(self.client.grow(&topic, total));
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, logical: &str) {
        let topic = self.topic(logical);
        self.runtime.block_on(self.client.delete(&topic));
        // The broker forgets a topic some time after it has said so.
        soon("the topic is gone", || {
            (!self.client.has_topic(&topic)).then_some(())
        });
    }

    /// Deletes a topic and makes it again, empty.
    pub fn recreate_topic(&self, logical: &str, partitions: i32) {
        self.delete_topic(logical);
        self.create_topic(logical, partitions);
    }

    /// Gives a topic other settings; those that aren't named go back to their defaults.
    pub fn configure_topic(&self, logical: &str, settings: &[(&str, &str)]) {
        let topic = self.topic(logical);
        self.runtime.block_on(
            self.client
                .configure(ResourceSpecifier::Topic(&topic), settings),
        );
    }

    /// Removes the records of a partition before an offset, as retention does.
    pub fn delete_records(&self, logical: &str, partition: i32, before: i64) {
        let topic = self.topic(logical);
        self.runtime
            .block_on(self.client.delete_records(&topic, partition, before));
    }

    /// Changes what the group has committed in Kafka, as an administrator can while it has no members. What is taken
    /// out of the map is gone, as after the group's offsets expired.
    pub fn move_offsets(&self, change: impl FnOnce(&mut Offsets)) {
        let mut offsets = self.watermarks();
        change(&mut offsets);
        let group = self.group();
        soon("the group is empty and can be removed", || {
            self.runtime
                .block_on(self.client.remove_group(&group))
                .then_some(())
        });
        self.client.commit(&group, &offsets);
    }

    /// Writes something else into the database.
    pub fn execute(&self, sql: &str) {
        self.runtime.block_on(self.database.execute(sql));
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
}

impl Client {
    async fn grow(&self, topic: &str, total: usize) {
        let new = NewPartitions::new(topic, total);
        let grown = self.admin.create_partitions([&new], &options()).await;
        for result in grown.expect("an answer") {
            result.unwrap_or_else(|(topic, code)| panic!("topic {topic}: {code}"));
        }
    }

    async fn delete(&self, topic: &str) {
        let deleted = self.admin.delete_topics(&[topic], &options()).await;
        for result in deleted.expect("an answer") {
            result.unwrap_or_else(|(topic, code)| panic!("topic {topic}: {code}"));
        }
    }

    pub(crate) async fn configure(
        &self,
        resource: ResourceSpecifier<'_>,
        settings: &[(&str, &str)],
    ) {
        let change = settings
            .iter()
            .fold(AlterConfig::new(resource), |change, (name, value)| {
                change.set(name, value)
            });
        let changed = self.admin.alter_configs([&change], &options()).await;
        for result in changed.expect("an answer") {
            result.unwrap_or_else(|(resource, code)| panic!("{resource:?}: {code}"));
        }
    }

    fn has_topic(&self, topic: &str) -> bool {
        let metadata = self
            .consumer(&[])
            .fetch_metadata(None, PATIENCE)
            .expect("the cluster's metadata");
        metadata.topics().iter().any(|found| found.name() == topic)
    }

    async fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))
            .expect("an offset");
        let deleted = self.admin.delete_records(&list, &options()).await;
        for element in deleted.expect("an answer").elements() {
            element.error().expect("the records to go");
        }
    }

    /// False while it has members; one that is not there is removed already.
    async fn remove_group(&self, group: &str) -> bool {
        let removed = self.admin.delete_groups(&[group], &options()).await;
        removed
            .expect("an answer")
            .into_iter()
            .all(|result| match result {
                Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => true,
                Err((_, RDKafkaErrorCode::NonEmptyGroup)) => false,
                Err((group, code)) => panic!("group {group}: {code}"),
            })
    }

    fn commit(&self, group: &str, offsets: &Offsets) {
        let consumer = self.consumer(&[("group.id", group)]);
        let mut list = TopicPartitionList::new();
        for ((topic, partition), watermark) in offsets {
            let Some(watermark) = watermark else { continue };
            let mut element = list.add_partition(topic, *partition);
            element
                .set_offset(Offset::Offset(watermark.offset))
                .expect("an offset");
            element.set_metadata(&watermark.metadata);
        }
        consumer
            .commit(&list, CommitMode::Sync)
            .expect("the group's offsets");
    }
}
