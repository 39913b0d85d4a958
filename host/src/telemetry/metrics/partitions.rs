//! Metrics: how each partition is.

use prometheus::{IntGaugeVec, Registry};

use super::build::gauges;
use crate::telemetry::names;

/// The metrics of this file.
#[derive(Debug)]
pub(super) struct Partitions {
    pub(super) lag: IntGaugeVec,
    pub(super) halted: IntGaugeVec,
    pub(super) deferred: IntGaugeVec,
    pub(super) stranded: IntGaugeVec,
    pub(super) frames: IntGaugeVec,
}

impl Partitions {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            lag: gauges(
                r,
                names::CONSUMER_LAG,
                "Records still to decide.",
                &["topic", "partition"],
            ),
            halted: gauges(
                r,
                names::PARTITION_HALTED,
                "1 while the partition is halted.",
                &["topic", "partition"],
            ),
            deferred: gauges(
                r,
                names::DEFERRED_PENDING,
                "Messages that wait as deferred.",
                &["topic", "partition"],
            ),
            stranded: gauges(
                r,
                names::STRANDED,
                "Due timers and messages that this host can't decide.",
                &["topic", "partition"],
            ),
            frames: gauges(
                r,
                names::OUTBOX_FRAMES,
                "Committed batches that are not yet in Kafka.",
                &["topic", "partition"],
            ),
        }
    }
}
