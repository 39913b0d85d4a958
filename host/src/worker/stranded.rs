//! Wakeups that this host can't decide: out of the way of those that it can, and not to be overlooked.
//!
//! A route that is no longer configured, or a cause that a later version stored. They are looked at again every
//! minute, so they fire by themselves once somebody has put it right.

use std::time::Duration;

use taskhost_core::round::Stranded;

use super::{Failure, Worker};
use crate::clock::now;
use crate::telemetry::health::StrandedWakeups;

/// How long a stranded wakeup waits until it is looked at again: soon after the configuration is put right, and so seldom
/// that many cost nothing.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

impl Worker {
    /// Puts wakeups off that can't be decided here, and says so if they have become more. How many it put off.
    pub(super) async fn strand(&mut self, stranded: &[Stranded]) -> Result<u64, Failure> {
        let Some(first) = stranded.first() else {
            return Ok(0);
        };
        let again = i64::try_from(AGAIN_AFTER.as_millis()).unwrap_or(i64::MAX);
        let due = now().saturating_add(again);
        let rows: Vec<_> = stranded
            .iter()
            .map(|one| (one.wakeup, one.reason.as_str()))
            .collect();
        let (key, epoch) = (&self.key, self.claimed.epoch);
        let put_off = self.shared.ledger.strand(key, epoch, &rows, due).await?;
        let stranded = self.count_stranded().await?;
        if stranded > self.claimed.waiting.stranded_reported {
            self.claimed.waiting.stranded_reported = stranded;
            tracing::error!(
                stranded,
                reason = first.reason,
                "timers or messages are due that this host can't decide; they wait, and are looked at every minute"
            );
        }
        Ok(put_off)
    }

    /// Counts them for metric and health.
    pub(super) async fn count_stranded(&mut self) -> Result<i64, Failure> {
        let (stranded, reason) = self.shared.ledger.count_stranded(&self.key).await?;
        let (topic, partition) = (&*self.partition.topic, self.partition.partition);
        let wakeups = u64::try_from(stranded).unwrap_or(0);
        self.shared.metrics.set_stranded(topic, partition, wakeups);
        let told = reason.map(|reason| StrandedWakeups { wakeups, reason });
        self.shared.health.set_stranded(topic, partition, told);
        Ok(stranded)
    }
}
