//! Lag: the records that are still to decide, told once a second for every partition at work.
//!
//! The log's stable end minus the progress row. A partition that was seen at its end and has decided
//! everything before it says 0 by itself, though commit markers lie behind its last record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taskhost_core::record::{Offset, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::kafka::Consumer;
use crate::telemetry::metrics::Metrics;

/// How often the ends are asked for.
const EVERY: Duration = Duration::from_secs(1);

/// How long the brokers may take to tell.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the partitions at work are.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<TopicPartition, Offset>>>);

impl Places {
    /// Says where a partition is.
    pub fn set(&self, partition: &TopicPartition, next_offset: Offset) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match places.get_mut(partition) {
            Some(place) => *place = next_offset,
            None => drop(places.insert(partition.clone(), next_offset)),
        }
    }

    /// Forgets a partition that is given back.
    pub fn remove(&self, partition: &TopicPartition) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(partition);
    }

    fn all(&self) -> HashMap<TopicPartition, Offset> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Tells every partition's lag until it is stopped.
pub async fn watch(
    consumer: Arc<Consumer>,
    places: Places,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let (asked, consumer) = (places.all(), consumer.clone());
        let partitions: Vec<TopicPartition> = asked.keys().cloned().collect();
        let ends =
            tokio::task::spawn_blocking(move || consumer.stable_ends(&partitions, PATIENCE)).await;
        let Ok(Ok(ends)) = ends else { continue };
        for (partition, next) in places.all() {
            if let Some(end) = ends.get(&partition) {
                let lag = u64::try_from(end.saturating_sub(next)).unwrap_or(0);
                metrics.set_lag(&partition.topic, partition.partition, lag);
            }
        }
    }
}
