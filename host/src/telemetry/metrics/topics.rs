//! Metrics: the records that are taken from each topic, and the messages that are sent to it.

use prometheus::{GaugeVec, IntCounterVec, Registry};

use super::build::{counters, means};
use crate::telemetry::names;

/// The metrics of this file.
#[derive(Debug)]
pub(super) struct Topics {
    pub(super) processed: IntCounterVec,
    pub(super) dead_lettered: IntCounterVec,
    pub(super) decide_mean: GaugeVec,
    pub(super) sent: IntCounterVec,
    pub(super) send_failed: IntCounterVec,
    pub(super) send_mean: GaugeVec,
}

impl Topics {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            processed: counters(
                r,
                names::CONSUMER_PROCESSED,
                "Records with a committed outcome.",
                &["topic"],
            ),
            dead_lettered: counters(
                r,
                names::CONSUMER_FAILED,
                "Records that became dead letters.",
                &["topic"],
            ),
            decide_mean: means(
                r,
                names::CONSUMER_DURATION,
                "Seconds from decoding to commit, mean of the last minute's records.",
            ),
            sent: counters(
                r,
                names::PRODUCER_SENT,
                "Messages in committed transactions.",
                &["topic"],
            ),
            send_failed: counters(
                r,
                names::PRODUCER_FAILED,
                "Deliveries that failed.",
                &["topic"],
            ),
            send_mean: means(
                r,
                names::PRODUCER_DURATION,
                "Seconds from sending to commit, mean of the last minute's messages.",
            ),
        }
    }
}
