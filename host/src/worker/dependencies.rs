//! Waiting for what a partition needs and doesn't have: an open breaker, or a pause before a step is tried again.
//!
//! While a breaker is open nothing is tried, so nothing fails: no message is blamed and no attempt spent. The poll thread
//! goes on by itself, and what it fetches waits in the feed.

use std::convert::Infallible;

use taskhost_core::partition::Action;
use taskhost_core::retry;

use super::{BACKOFF_MAX, Worker};
use crate::chance;
use crate::telemetry::health::PartitionState;

impl Worker {
    /// Waits until Postgres and Kafka are there. True if that took any time.
    pub(super) async fn await_dependencies(&mut self) -> bool {
        let mut waited = false;
        loop {
            let reason = self.signals.open.get().reason();
            let Some(reason) = reason else {
                self.eras = self.shared.breakers.eras();
                if waited {
                    self.shared.publisher.hurry();
                }
                return waited;
            };
            waited = true;
            let (topic, partition) = (&*self.partition.topic, self.partition.partition);
            let health = &self.shared.health;
            health.set_partition(topic, partition, PartitionState::Paused { reason });
            self.signals.open.changed().await;
        }
    }

    /// Shows that the partition pauses while a breaker is open, also in the middle of a step, which may be waiting for an
    /// answer that doesn't come.
    pub(super) fn show_pauses(&self, action: &Action) -> impl Future<Output = Infallible> + use<> {
        let (health, partition) = (self.shared.health.clone(), self.partition.clone());
        let (mut open, otherwise) = (self.signals.open.clone(), self.state(action));
        async move {
            loop {
                open.changed().await;
                let state = match open.peek().reason() {
                    Some(reason) => PartitionState::Paused { reason },
                    None => otherwise.clone(),
                };
                health.set_partition(&partition.topic, partition.partition, state);
            }
        }
    }

    /// The pause before a step is tried again. It ends early when an outage begins: the step then waits for its end.
    pub(super) async fn back_off(&mut self, attempt: u32) {
        let pause = retry::full_jitter(
            self.shared.rules.backoff,
            attempt,
            BACKOFF_MAX,
            chance::share(),
        );
        let mut open = self.signals.open.clone();
        tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => {}
            () = open.wait_for(crate::breakers::dependencies::Open::any) => {}
        }
    }
}
