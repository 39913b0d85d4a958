//! The host's metrics: their registry, their setters and their output.
//!
//! Counters of a topic or a route begin at 0 when it is declared, so that a rate over a restart and an alert on
//! "never" both work. The two `…_duration_seconds` gauges are means of the last minute. There are also histograms of the
//! same durations.

mod build;
mod dead_letters;
mod routes;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGaugeVec, Registry};

use build::{counters, gauges, histogram, means, registered};
use routes::RouteMetrics;

use super::window::Window;
use super::{exposition, names};
use taskhost_core::route_breaker::State;

/// The content type of [`Metrics::text`].
pub const TEXT_CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

pub use taskhost_core::outcome::Outcome;

/// Messages per second over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Messages whose outcome was committed.
    pub processed: f64,
    /// Messages of them that became dead letters.
    pub failed: f64,
}

/// Every metric of one host, in its own registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    started: Instant,
    windows: Mutex<Windows>,
    consumer_processed: IntCounterVec,
    consumer_failed: IntCounterVec,
    consumer_lag: IntGaugeVec,
    consumer_duration: GaugeVec,
    producer_sent: IntCounterVec,
    producer_failed: IntCounterVec,
    producer_duration: GaugeVec,
    batch_decide: Histogram,
    batch_commit: Histogram,
    batch_publish: Histogram,
    batch_messages: Histogram,
    outcomes: IntCounterVec,
    plugin_faults: IntCounterVec,
    conflicts: IntCounterVec,
    plugin_purity_checked: IntCounterVec,
    plugin_impure: IntCounterVec,
    plugin_refused: IntCounterVec,
    plugin_swaps: IntCounter,
    plugin_info: IntGaugeVec,
    partition_halted: IntGaugeVec,
    deferred_pending: IntGaugeVec,
    stranded: IntGaugeVec,
    outbox_frames: IntGaugeVec,
    breaker_open: IntGaugeVec,
    routes: RouteMetrics,
    dead_letters: dead_letters::DeadLetters,
}

/// The data for the gauges of the last minute and for the rates.
#[derive(Debug, Default)]
struct Windows {
    processed: BTreeMap<String, Window>,
    failed: BTreeMap<String, Window>,
    sent: BTreeMap<String, Window>,
    /// Lag by topic and partition, for the health page.
    lag: BTreeMap<(String, i32), u64>,
    /// The labels of each route's `taskhost_plugin_info`, to remove when the version changes.
    plugins: BTreeMap<String, [String; 4]>,
}

/// 1 ms to 10 s: a batch takes a few milliseconds, and 10 s is where timeouts begin.
const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Up to the largest batch that can be configured.
const MESSAGES: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 10000.0,
];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, with nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        Self {
            started: Instant::now(),
            windows: Mutex::default(),
            consumer_processed: counters(
                r,
                names::CONSUMER_PROCESSED,
                "Records with a committed outcome.",
                &["topic"],
            ),
            consumer_failed: counters(
                r,
                names::CONSUMER_FAILED,
                "Records that became dead letters.",
                &["topic"],
            ),
            consumer_lag: gauges(
                r,
                names::CONSUMER_LAG,
                "Records still to decide.",
                &["topic", "partition"],
            ),
            consumer_duration: means(
                r,
                names::CONSUMER_DURATION,
                "Seconds from decoding to commit, mean of the last minute's records.",
            ),
            producer_sent: counters(
                r,
                names::PRODUCER_SENT,
                "Messages in committed transactions.",
                &["topic"],
            ),
            producer_failed: counters(
                r,
                names::PRODUCER_FAILED,
                "Deliveries that failed.",
                &["topic"],
            ),
            producer_duration: means(
                r,
                names::PRODUCER_DURATION,
                "Seconds from sending to commit, mean of the last minute's messages.",
            ),
            batch_decide: histogram(
                r,
                names::BATCH_DECIDE,
                "Seconds that deciding one batch took.",
                &SECONDS,
            ),
            batch_commit: histogram(
                r,
                names::BATCH_COMMIT,
                "Seconds that committing one batch to Postgres took.",
                &SECONDS,
            ),
            batch_publish: histogram(
                r,
                names::BATCH_PUBLISH,
                "Seconds that publishing one Kafka transaction took.",
                &SECONDS,
            ),
            batch_messages: histogram(
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
            plugin_faults: counters(
                r,
                names::PLUGIN_FAULTS,
                "Faults of a plugin.",
                &["plugin", "kind"],
            ),
            conflicts: counters(
                r,
                names::CONFLICTS,
                "Batches that were decided again, because what they were decided on had changed.",
                &["kind"],
            ),
            plugin_purity_checked: counters(
                r,
                names::PLUGIN_PURITY_CHECKED,
                "Decisions that were made a second time to compare the results.",
                &["plugin"],
            ),
            plugin_impure: counters(
                r,
                names::PLUGIN_IMPURE,
                "Decisions with a different result the second time.",
                &["plugin"],
            ),
            plugin_refused: counters(
                r,
                names::PLUGIN_REFUSED,
                "Plugin files that were refused.",
                &["route"],
            ),
            plugin_swaps: registered(
                r,
                IntCounter::new(names::PLUGIN_SWAPS, "Changes of the active version."),
            ),
            plugin_info: gauges(
                r,
                names::PLUGIN_INFO,
                "1 for the active version.",
                &["route", "name", "version", "digest"],
            ),
            partition_halted: gauges(
                r,
                names::PARTITION_HALTED,
                "1 while the partition is halted.",
                &["topic", "partition"],
            ),
            deferred_pending: gauges(
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
            outbox_frames: gauges(
                r,
                names::OUTBOX_FRAMES,
                "Committed batches that are not yet in Kafka.",
                &["topic", "partition"],
            ),
            breaker_open: gauges(
                r,
                names::BREAKER_OPEN,
                "1 while the dependency is away and partitions pause.",
                &["breaker"],
            ),
            routes: RouteMetrics::new(r),
            dead_letters: dead_letters::DeadLetters::new(r),
            registry,
        }
    }

    /// Begins the consumer's metrics of a topic at 0.
    pub fn declare_consumed(&self, topic: &str) {
        self.consumer_processed.with_label_values(&[topic]);
        self.consumer_failed.with_label_values(&[topic]);
        let second = self.second();
        let mut windows = self.windows();
        window(&mut windows.processed, topic, second);
        window(&mut windows.failed, topic, second);
    }

    /// Begins the producer's metrics of a topic at 0.
    pub fn declare_produced(&self, topic: &str) {
        self.producer_sent.with_label_values(&[topic]);
        self.producer_failed.with_label_values(&[topic]);
        window(&mut self.windows().sent, topic, self.second());
    }

    /// Begins a route's metrics at 0.
    pub fn declare_route(&self, route: &str) {
        for outcome in Outcome::ALL {
            self.outcomes.with_label_values(&[route, outcome.name()]);
        }
        self.plugin_refused.with_label_values(&[route]);
        self.routes.declare(route);
    }

    /// Counts records of a topic whose outcome is committed, dead letters included; `took` is the time from
    /// decoding to commit, which all records of a batch share.
    pub fn processed(&self, topic: &str, count: u64, took: Duration) {
        self.consumer_processed
            .with_label_values(&[topic])
            .inc_by(count);
        let second = self.second();
        window(&mut self.windows().processed, topic, second).add(second, count, took.as_secs_f64());
    }

    /// Counts records of a topic that became dead letters.
    pub fn dead_lettered(&self, topic: &str, count: u64) {
        self.consumer_failed
            .with_label_values(&[topic])
            .inc_by(count);
        let second = self.second();
        window(&mut self.windows().failed, topic, second).add(second, count, 0.0);
    }

    /// Counts messages to a topic in a committed transaction.
    pub fn sent(&self, topic: &str, count: u64) {
        self.producer_sent.with_label_values(&[topic]).inc_by(count);
    }

    /// Observes how long a transaction took to send its messages to a topic.
    pub fn send_took(&self, topic: &str, took: Duration) {
        let second = self.second();
        window(&mut self.windows().sent, topic, second).add(second, 1, took.as_secs_f64());
    }

    /// Counts deliveries to a topic that failed.
    pub fn send_failed(&self, topic: &str, count: u64) {
        self.producer_failed
            .with_label_values(&[topic])
            .inc_by(count);
    }

    /// Counts messages of a route by outcome.
    pub fn outcome(&self, route: &str, outcome: Outcome, count: u64) {
        self.outcomes
            .with_label_values(&[route, outcome.name()])
            .inc_by(count);
    }

    /// Observes that a batch of so many messages was decided.
    pub fn decided(&self, messages: u32, took: Duration) {
        self.batch_messages.observe(f64::from(messages));
        self.batch_decide.observe(took.as_secs_f64());
    }

    /// Observes that a batch was committed to Postgres.
    pub fn committed(&self, took: Duration) {
        self.batch_commit.observe(took.as_secs_f64());
    }

    /// Observes that a Kafka transaction was committed.
    pub fn published(&self, took: Duration) {
        self.batch_publish.observe(took.as_secs_f64());
    }

    /// Counts a fault of a plugin: `kind` is one of a few words, such as `trap` or `deadline`.
    pub fn plugin_fault(&self, plugin: &str, kind: &str) {
        self.plugin_faults.with_label_values(&[plugin, kind]).inc();
    }

    /// Counts a batch that is decided again. `kind`: `task`, `creation`, `row` or `activation`.
    pub fn conflict(&self, kind: &str) {
        self.conflicts.with_label_values(&[kind]).inc();
    }

    /// Counts a decision that was made again; from then on the plugin's impure ones are counted from 0.
    pub fn purity_checked(&self, plugin: &str) {
        self.plugin_purity_checked
            .with_label_values(&[plugin])
            .inc();
        self.plugin_impure.with_label_values(&[plugin]);
    }

    /// Counts a decision with a different result the second time.
    pub fn plugin_impure(&self, plugin: &str) {
        self.plugin_impure.with_label_values(&[plugin]).inc();
    }

    /// Counts a plugin file that was refused for a route.
    pub fn plugin_refused(&self, route: &str) {
        self.plugin_refused.with_label_values(&[route]).inc();
    }

    /// Sets the active version of a route. A change of version counts as a swap.
    pub fn set_plugin(&self, route: &str, name: &str, version: &str, digest: &str) {
        let labels = [route, name, version, digest].map(str::to_owned);
        let before = self
            .windows()
            .plugins
            .insert(route.to_owned(), labels.clone());
        if let Some(before) = before.filter(|before| *before != labels) {
            // It exists unless somebody else removed it, and then nothing is left to do.
            let _ = self.plugin_info.remove_label_values(&before);
            self.plugin_swaps.inc();
        }
        self.plugin_info.with_label_values(&labels).set(1);
    }

    /// Sets how many records of a partition are still to decide.
    pub fn set_lag(&self, topic: &str, partition: i32, records: u64) {
        self.windows()
            .lag
            .insert((topic.to_owned(), partition), records);
        self.consumer_lag
            .with_label_values(&[topic, &partition.to_string()])
            .set(int(records));
    }

    /// Sets how many messages of a partition wait as deferred.
    pub fn set_deferred_pending(&self, topic: &str, partition: i32, messages: u64) {
        self.deferred_pending
            .with_label_values(&[topic, &partition.to_string()])
            .set(int(messages));
    }

    /// Sets how many due wakeups of a partition the host can't decide.
    pub fn set_stranded(&self, topic: &str, partition: i32, wakeups: u64) {
        self.stranded
            .with_label_values(&[topic, &partition.to_string()])
            .set(int(wakeups));
    }

    /// Sets how many committed batches of a partition are not yet in Kafka.
    pub fn set_outbox_frames(&self, topic: &str, partition: i32, frames: u64) {
        self.outbox_frames
            .with_label_values(&[topic, &partition.to_string()])
            .set(int(frames));
    }

    /// Sets whether a partition is halted.
    pub fn set_halted(&self, topic: &str, partition: i32, halted: bool) {
        self.partition_halted
            .with_label_values(&[topic, &partition.to_string()])
            .set(i64::from(halted));
    }

    /// Sets whether a breaker is open.
    pub fn set_breaker(&self, breaker: &str, open: bool) {
        self.breaker_open
            .with_label_values(&[breaker])
            .set(i64::from(open));
    }

    /// Sets the state of a route's breaker.
    pub fn set_route_breaker(&self, route: &str, state: State) {
        self.routes.set(route, state);
    }

    /// Counts that faults opened a route's breaker.
    pub fn route_tripped(&self, route: &str) {
        self.routes.tripped(route);
    }

    /// Counts that this host rolled a route's version back.
    pub fn rolled_back(&self, route: &str) {
        self.routes.rolled_back(route);
    }

    /// Removes a partition that this host gave back: another host reports it now.
    pub fn remove_partition(&self, topic: &str, partition: i32) {
        self.windows().lag.remove(&(topic.to_owned(), partition));
        let labels = [topic, &partition.to_string()];
        for gauge in [
            &self.consumer_lag,
            &self.deferred_pending,
            &self.stranded,
            &self.outbox_frames,
            &self.partition_halted,
        ] {
            // A gauge that was never set has nothing to remove.
            let _ = gauge.remove_label_values(&labels);
        }
    }

    /// Messages per second over the last minute, all topics together.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let second = self.second();
        let windows = self.windows();
        let sum =
            |by_topic: &BTreeMap<String, Window>| by_topic.values().map(|w| w.rate(second)).sum();
        Rates {
            processed: sum(&windows.processed),
            failed: sum(&windows.failed),
        }
    }

    /// Records still to decide, by topic, over this host's partitions.
    #[must_use]
    pub fn lag_by_topic(&self) -> BTreeMap<String, u64> {
        let mut by_topic = BTreeMap::new();
        for ((topic, _), records) in &self.windows().lag {
            *by_topic.entry(topic.clone()).or_insert(0) += records;
        }
        by_topic
    }

    /// All metrics in Prometheus' text format; see [`TEXT_CONTENT_TYPE`].
    #[must_use]
    pub fn text(&self) -> String {
        exposition::text(&self.gather())
    }

    /// All metrics in the JSON shape of the prom-client library.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        exposition::json(&self.gather())
    }

    fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        let second = self.second();
        {
            let windows = self.windows();
            for (gauge, by_topic) in [
                (&self.consumer_duration, &windows.processed),
                (&self.producer_duration, &windows.sent),
            ] {
                for (topic, window) in by_topic {
                    gauge.with_label_values(&[topic]).set(window.mean(second));
                }
            }
        }
        self.registry.gather()
    }

    /// Seconds since the host began, the clock of the windows. It begins at one minute, because an empty slot has
    /// second 0.
    fn second(&self) -> u64 {
        self.started.elapsed().as_secs() + 60
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        // No holder of the lock can leave a half-made change.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn window<'a>(
    windows: &'a mut BTreeMap<String, Window>,
    topic: &str,
    second: u64,
) -> &'a mut Window {
    if !windows.contains_key(topic) {
        windows.insert(topic.to_owned(), Window::new(second));
    }
    windows
        .get_mut(topic)
        .unwrap_or_else(|| unreachable!("it was just inserted"))
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
