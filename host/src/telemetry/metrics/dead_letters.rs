//! Metrics of existing dead letters: how many are open, how replays end, and what the retention removes.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::build::{counters, gauges};
use super::{Metrics, int};
use crate::telemetry::names;

/// The metrics of this file.
#[derive(Debug)]
pub(super) struct DeadLetters {
    open: IntGaugeVec,
    replays: IntCounterVec,
    removed: IntCounterVec,
}

impl DeadLetters {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            open: gauges(
                registry,
                names::DEAD_LETTERS_OPEN,
                "Unresolved dead letters of the whole group.",
                &["topic", "state"],
            ),
            replays: counters(
                registry,
                names::REPLAYS,
                "Dead letters that were decided again, by outcome.",
                &["topic", "outcome"],
            ),
            removed: counters(
                registry,
                names::RETENTION,
                "Rows that this host's retention removed.",
                &["what"],
            ),
        }
    }
}

impl Metrics {
    /// Sets how many unresolved dead letters the group has; states that aren't named are 0.
    pub fn set_dead_letters<'a>(&self, counts: impl Iterator<Item = (&'a str, &'static str, u64)>) {
        self.dead_letters.open.reset();
        for (topic, state, count) in counts {
            let labels = [topic, state];
            self.dead_letters
                .open
                .with_label_values(&labels)
                .set(int(count));
        }
    }

    /// Counts a dead letter that was decided again.
    pub fn replayed(&self, topic: &str, outcome: &str) {
        self.dead_letters
            .replays
            .with_label_values(&[topic, outcome])
            .inc();
    }

    /// Counts rows that the retention removed.
    pub fn removed(&self, what: &str, rows: u64) {
        self.dead_letters
            .removed
            .with_label_values(&[what])
            .inc_by(rows);
    }
}
