//! Metrics of existing dead letters: how many are open, how replays end, and what the retention removes.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::build::{counters, gauges, int};
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

impl DeadLetters {
    /// Sets how many unresolved dead letters the group has; states that aren't named are 0.
    pub(super) fn set<'a>(&self, counts: impl Iterator<Item = (&'a str, &'static str, u64)>) {
        self.open.reset();
        for (topic, state, count) in counts {
            let labels = [topic, state];
            self.open.with_label_values(&labels).set(int(count));
        }
    }

    /// Counts a dead letter that was decided again.
    pub(super) fn replayed(&self, topic: &str, outcome: &str) {
        self.replays.with_label_values(&[topic, outcome]).inc();
    }

    /// Counts rows that the retention removed.
    pub(super) fn removed(&self, what: &str, rows: u64) {
        self.removed.with_label_values(&[what]).inc_by(rows);
    }
}
