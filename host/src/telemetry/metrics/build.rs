//! Makes metrics and adds them to the registry.

use prometheus::core::Collector;
use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry};

pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

pub(super) fn means(registry: &Registry, name: &str, help: &str) -> GaugeVec {
    registered(registry, GaugeVec::new(Opts::new(name, help), &["topic"]))
}

pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    registered(registry, Histogram::with_opts(options))
}

/// Adds a metric to the registry. Names and labels are constants, so an error is a mistake of ours that
/// every test would show.
pub(super) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let metric = made.unwrap_or_else(|error| unreachable!("a legal metric: {error}"));
    registry
        .register(Box::new(metric.clone()))
        .unwrap_or_else(|error| unreachable!("a metric of its own name: {error}"));
    metric
}

/// A count as a gauge has it.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
