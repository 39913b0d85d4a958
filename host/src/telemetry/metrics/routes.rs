//! Metrics of the breakers of routes, and of rollbacks.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::build::{counters, gauges};
use crate::telemetry::names;
use taskhost_core::route_breaker::State;

/// The metrics of breakers, by route.
#[derive(Debug)]
pub(super) struct RouteMetrics {
    state: IntGaugeVec,
    trips: IntCounterVec,
    rollbacks: IntCounterVec,
}

impl RouteMetrics {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            state: gauges(
                r,
                names::ROUTE_BREAKER_STATE,
                "1 for the current state of the route's breaker.",
                &["route", "state"],
            ),
            trips: counters(
                r,
                names::ROUTE_BREAKER_TRIPS,
                "How often faults opened the route's breaker.",
                &["route"],
            ),
            rollbacks: counters(
                r,
                names::PLUGIN_ROLLBACKS,
                "Versions that this host rolled back.",
                &["route"],
            ),
        }
    }

    pub(super) fn declare(&self, route: &str) {
        self.set(route, State::Closed);
        self.trips.with_label_values(&[route]);
        self.rollbacks.with_label_values(&[route]);
    }

    pub(super) fn set(&self, route: &str, state: State) {
        for one in State::ALL {
            let gauge = self.state.with_label_values(&[route, one.as_str()]);
            gauge.set(i64::from(one == state));
        }
    }

    pub(super) fn tripped(&self, route: &str) {
        self.trips.with_label_values(&[route]).inc();
    }

    pub(super) fn rolled_back(&self, route: &str) {
        self.rollbacks.with_label_values(&[route]).inc();
    }
}
