//! Metrics: what became of batches, and how long each of their steps took.

use prometheus::{Histogram, IntCounterVec, Registry};

use super::build::{counters, histogram};
use crate::telemetry::names;

/// 1 ms to 10 s: a batch takes a few milliseconds, and 10 s is where timeouts begin.
const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Up to the largest batch that can be configured.
const MESSAGES: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 10000.0,
];

/// The metrics of this file.
#[derive(Debug)]
pub(super) struct Batches {
    pub(super) decide: Histogram,
    pub(super) commit: Histogram,
    pub(super) publish: Histogram,
    pub(super) messages: Histogram,
    pub(super) outcomes: IntCounterVec,
    pub(super) conflicts: IntCounterVec,
}

impl Batches {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            decide: histogram(
                r,
                names::BATCH_DECIDE,
                "Seconds that deciding one batch took.",
                &SECONDS,
            ),
            commit: histogram(
                r,
                names::BATCH_COMMIT,
                "Seconds that committing one batch to Postgres took.",
                &SECONDS,
            ),
            publish: histogram(
                r,
                names::BATCH_PUBLISH,
                "Seconds that publishing one Kafka transaction took.",
                &SECONDS,
            ),
            messages: histogram(
                r,
                names::BATCH_MESSAGES,
                "Messages in one batch.",
                &MESSAGES,
            ),
            outcomes: counters(
                r,
                names::OUTCOMES,
                "Messages by outcome.",
                &["route", "outcome"],
            ),
            conflicts: counters(
                r,
                names::CONFLICTS,
                "Batches that were decided again, because what they were decided on had changed.",
                &["kind"],
            ),
        }
    }
}
