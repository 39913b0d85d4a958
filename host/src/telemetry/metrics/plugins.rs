//! Metrics: how plugins fail, and which version is active.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Registry};

use super::build::{counters, gauges, registered};
use crate::telemetry::names;

/// The metrics of this file.
#[derive(Debug)]
pub(super) struct Plugins {
    pub(super) faults: IntCounterVec,
    pub(super) purity_checked: IntCounterVec,
    pub(super) impure: IntCounterVec,
    pub(super) refused: IntCounterVec,
    pub(super) swaps: IntCounter,
    pub(super) info: IntGaugeVec,
}

impl Plugins {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            faults: counters(
                r,
                names::PLUGIN_FAULTS,
                "Faults of a plugin.",
                &["plugin", "kind"],
            ),
            purity_checked: counters(
                r,
                names::PLUGIN_PURITY_CHECKED,
                "Decisions that were made a second time to compare the results.",
                &["plugin"],
            ),
            impure: counters(
                r,
                names::PLUGIN_IMPURE,
                "Decisions with a different result the second time.",
                &["plugin"],
            ),
            refused: counters(
                r,
                names::PLUGIN_REFUSED,
                "Plugin files that were refused.",
                &["route"],
            ),
            swaps: registered(
                r,
                IntCounter::new(names::PLUGIN_SWAPS, "Changes of the active version."),
            ),
            info: gauges(
                r,
                names::PLUGIN_INFO,
                "1 for the active version.",
                &["route", "name", "version", "digest"],
            ),
        }
    }
}
