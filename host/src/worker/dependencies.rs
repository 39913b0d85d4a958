//! Waiting for what a partition needs and doesn't have: an open breaker, or a pause before a step is tried again.
//!
//! While a breaker is open nothing is tried, so nothing fails: no message is blamed and no attempt spent. The poll thread
//! goes on by itself, and what it fetches waits in the feed.

use taskhost_core::retry;

use super::{BACKOFF_MAX, Dependency, Worker};
use crate::breaker::Name;
use crate::telemetry::health::PartitionState;

impl Dependency {
    /// The breaker that guards it.
    pub(super) fn breaker(self) -> Option<Name> {
        match self {
            Self::Postgres => Some(Name::Postgres),
            Self::Kafka => Some(Name::Kafka),
            Self::Plugins => None,
        }
    }
}

impl Worker {
    /// Waits until Postgres and Kafka are there. True if that took any time.
    pub(super) async fn dependencies(&mut self) -> bool {
        let mut waited = false;
        loop {
            let reason = self.open.borrow_and_update().reason();
            let Some(reason) = reason else {
                self.eras = self.shared.breakers.eras();
                return waited;
            };
            waited = true;
            self.shared.health.set_partition(
                &self.partition.topic,
                self.partition.partition,
                PartitionState::Paused { reason },
            );
            // The breakers live as long as the worker.
            let _ = self.open.changed().await;
        }
    }

    /// The pause before a step is tried again. It ends early when an outage begins: the step then waits for its end.
    pub(super) async fn back_off(&mut self, attempt: u32) {
        let pause = retry::full_jitter(
            self.shared.rules.backoff,
            attempt,
            BACKOFF_MAX,
            rand::random(),
        );
        let mut open = self.open.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = open.wait_for(crate::breaker::Open::any) => {}
        }
    }
}
