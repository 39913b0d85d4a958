//! The worker's port, with librdkafka. Its blocking calls run on threads for that.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::record::{Offset, TopicPartition};
use taskhost_core::recovery::Log as Bounds;
use taskhost_core::watermark::Watermark;
use tokio::time::Instant;

use super::admin::Admin;
use super::consumer::Consumer;
use super::{Settings, fence};
use crate::log::{Disposition, Error, Result};
use crate::log::{Log, Ownership, Tag};

/// How long Kafka may take to tell the watermark. A zombie's open transaction was fenced before, so a
/// healthy broker answers at once.
const WATERMARK_PATIENCE: Duration = Duration::from_secs(5);

/// How long the coordinator may take to abort what a dead owner left open.
const FENCE_PATIENCE: Duration = Duration::from_secs(10);

/// The group's log, for this host.
#[derive(Debug)]
pub struct KafkaLog {
    consumer: Arc<Consumer>,
    admin: Admin,
    settings: Settings,
}

impl KafkaLog {
    /// As this consumer of the group reads it.
    pub fn new(consumer: Arc<Consumer>, admin: Admin, settings: Settings) -> Self {
        Self {
            consumer,
            admin,
            settings,
        }
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn bounds(&self, partition: &TopicPartition) -> Result<Option<Bounds>> {
        let topic = &*partition.topic;
        let described = self.admin.describe(&[topic]).await?;
        let Some(topic_id) = described.get(topic).map(|topic| topic.id) else {
            return Ok(None);
        };
        let (consumer, partition) = (self.consumer.clone(), partition.clone());
        let bounds = move || consumer.log_bounds(&partition, WATERMARK_PATIENCE);
        let (low, high) = blocking(bounds).await?;
        Ok(Some(Bounds {
            topic_id,
            low,
            high,
        }))
    }

    async fn committed(&self, partition: &TopicPartition) -> Result<Watermark> {
        let (consumer, partition) = (self.consumer.clone(), partition.clone());
        blocking(move || consumer.committed(&partition, WATERMARK_PATIENCE)).await
    }

    async fn fence(&self, former: &str, since: Instant) -> Result<()> {
        let (settings, former) = (self.settings.clone(), former.to_owned());
        blocking(move || fence(&settings, &former, since.into_std(), FENCE_PATIENCE)).await
    }

    fn add(&self, partition: &TopicPartition, offset: Offset, tag: Tag) -> Result<bool> {
        self.consumer.add(partition, offset, tag)
    }

    async fn remove(&self, partition: &TopicPartition, tag: Tag) -> Result<bool> {
        self.consumer.remove(partition, tag).await
    }

    fn ownership(&self) -> &Arc<Ownership> {
        self.consumer.ownership()
    }
}

/// Runs a blocking call of Kafka's client off the async threads.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let called = tokio::task::spawn_blocking(call).await;
    called.unwrap_or_else(|error| {
        let doing = "asking Kafka";
        Err(Error::new(doing, Disposition::Trouble, error.to_string()))
    })
}
