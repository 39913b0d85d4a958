//! The host's metrics: their registry, their setters and their output.
//!
//! Counters of a topic or a route begin at 0 when it is declared, so that a rate over a restart and an alert on
//! "never" both work. The two `…_duration_seconds` gauges are means of the last minute. There are also histograms of the
//! same durations.

mod batches;
mod build;
mod dead_letters;
mod partitions;
mod plugins;
mod routes;
mod topics;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntGaugeVec, Registry};

use batches::Batches;
use build::{gauges, int};
use dead_letters::DeadLetters;
use partitions::Partitions;
use plugins::Plugins;
use routes::RouteMetrics;
use topics::Topics;

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
    topics: Topics,
    batches: Batches,
    plugins: Plugins,
    partitions: Partitions,
    breaker_open: IntGaugeVec,
    routes: RouteMetrics,
    dead_letters: DeadLetters,
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
            topics: Topics::new(r),
            batches: Batches::new(r),
            plugins: Plugins::new(r),
            partitions: Partitions::new(r),
            breaker_open: gauges(
                r,
                names::BREAKER_OPEN,
                "1 while the dependency is away and partitions pause.",
                &["breaker"],
            ),
            routes: RouteMetrics::new(r),
            dead_letters: DeadLetters::new(r),
            registry,
        }
    }

    /// Begins the consumer's metrics of a topic at 0.
    pub fn declare_consumed(&self, topic: &str) {
        self.topics.processed.with_label_values(&[topic]);
        self.topics.dead_lettered.with_label_values(&[topic]);
        let second = self.second();
        let mut windows = self.windows();
        window(&mut windows.processed, topic, second);
        window(&mut windows.failed, topic, second);
    }

    /// Begins the producer's metrics of a topic at 0.
    pub fn declare_produced(&self, topic: &str) {
        self.topics.sent.with_label_values(&[topic]);
        self.topics.send_failed.with_label_values(&[topic]);
        window(&mut self.windows().sent, topic, self.second());
    }

    /// Begins a route's metrics at 0.
    pub fn declare_route(&self, route: &str) {
        for outcome in Outcome::ALL {
            self.batches
                .outcomes
                .with_label_values(&[route, outcome.name()]);
        }
        self.plugins.refused.with_label_values(&[route]);
        self.routes.declare(route);
    }

    /// Counts records of a topic whose outcome is committed, dead letters included; `took` is the time from
    /// decoding to commit, which all records of a batch share.
    pub fn processed(&self, topic: &str, count: u64, took: Duration) {
        self.topics
            .processed
            .with_label_values(&[topic])
            .inc_by(count);
        let second = self.second();
        window(&mut self.windows().processed, topic, second).add(second, count, took.as_secs_f64());
    }

    /// Counts records of a topic that became dead letters.
    pub fn dead_lettered(&self, topic: &str, count: u64) {
        self.topics
            .dead_lettered
            .with_label_values(&[topic])
            .inc_by(count);
        let second = self.second();
        window(&mut self.windows().failed, topic, second).add(second, count, 0.0);
    }

    /// Counts messages to a topic in a committed transaction.
    pub fn sent(&self, topic: &str, count: u64) {
        self.topics.sent.with_label_values(&[topic]).inc_by(count);
    }

    /// Observes how long a transaction took to send its messages to a topic.
    pub fn send_took(&self, topic: &str, took: Duration) {
        let second = self.second();
        window(&mut self.windows().sent, topic, second).add(second, 1, took.as_secs_f64());
    }

    /// Counts deliveries to a topic that failed.
    pub fn send_failed(&self, topic: &str, count: u64) {
        self.topics
            .send_failed
            .with_label_values(&[topic])
            .inc_by(count);
    }

    /// Counts messages of a route by outcome.
    pub fn outcome(&self, route: &str, outcome: Outcome, count: u64) {
        self.batches
            .outcomes
            .with_label_values(&[route, outcome.name()])
            .inc_by(count);
    }

    /// Observes that a batch of so many messages was decided.
    pub fn decided(&self, messages: u32, took: Duration) {
        self.batches.messages.observe(f64::from(messages));
        self.batches.decide.observe(took.as_secs_f64());
    }

    /// Observes that a batch was committed to Postgres.
    pub fn committed(&self, took: Duration) {
        self.batches.commit.observe(took.as_secs_f64());
    }

    /// Observes that a Kafka transaction was committed.
    pub fn published(&self, took: Duration) {
        self.batches.publish.observe(took.as_secs_f64());
    }

    /// Counts a fault of a plugin: `kind` is one of a few words, such as `trap` or `deadline`.
    pub fn plugin_fault(&self, plugin: &str, kind: &str) {
        self.plugins.faults.with_label_values(&[plugin, kind]).inc();
    }

    /// Counts a batch that is decided again. `kind`: `task`, `creation`, `row` or `activation`.
    pub fn conflict(&self, kind: &str) {
        self.batches.conflicts.with_label_values(&[kind]).inc();
    }

    /// Counts a decision that was made again; from then on the plugin's impure ones are counted from 0.
    pub fn purity_checked(&self, plugin: &str) {
        self.plugins
            .purity_checked
            .with_label_values(&[plugin])
            .inc();
        self.plugins.impure.with_label_values(&[plugin]);
    }

    /// Counts a decision with a different result the second time.
    pub fn plugin_impure(&self, plugin: &str) {
        self.plugins.impure.with_label_values(&[plugin]).inc();
    }

    /// Counts a plugin file that was refused for a route.
    pub fn plugin_refused(&self, route: &str) {
        self.plugins.refused.with_label_values(&[route]).inc();
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
            let _ = self.plugins.info.remove_label_values(&before);
            self.plugins.swaps.inc();
        }
        self.plugins.info.with_label_values(&labels).set(1);
    }

    /// Sets how many records of a partition are still to decide.
    pub fn set_lag(&self, topic: &str, partition: i32, records: u64) {
        self.windows()
            .lag
            .insert((topic.to_owned(), partition), records);
        self.partitions
            .lag
            .with_label_values(&[topic, &partition.to_string()])
            .set(int(records));
    }

    /// Sets how many messages of a partition wait as deferred.
    pub fn set_deferred_pending(&self, topic: &str, partition: i32, messages: u64) {
        self.partitions
            .deferred
            .with_label_values(&[topic, &partition.to_string()])
            .set(int(messages));
    }

    /// Sets how many due wakeups of a partition the host can't decide.
    pub fn set_stranded(&self, topic: &str, partition: i32, wakeups: u64) {
        self.partitions
            .stranded
            .with_label_values(&[topic, &partition.to_string()])
            .set(int(wakeups));
    }

    /// Sets how many committed batches of a partition are not yet in Kafka.
    pub fn set_outbox_frames(&self, topic: &str, partition: i32, frames: u64) {
        self.partitions
            .frames
            .with_label_values(&[topic, &partition.to_string()])
            .set(int(frames));
    }

    /// Sets whether a partition is halted.
    pub fn set_halted(&self, topic: &str, partition: i32, halted: bool) {
        self.partitions
            .halted
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

    /// Sets how many unresolved dead letters the group has; states that aren't named are 0.
    pub fn set_dead_letters<'a>(&self, counts: impl Iterator<Item = (&'a str, &'static str, u64)>) {
        self.dead_letters.set(counts);
    }

    /// Counts a dead letter that was decided again.
    pub fn replayed(&self, topic: &str, outcome: &str) {
        self.dead_letters.replayed(topic, outcome);
    }

    /// Counts rows that the retention removed.
    pub fn removed(&self, what: &str, rows: u64) {
        self.dead_letters.removed(what, rows);
    }

    /// Removes a partition that this host gave back: another host reports it now.
    pub fn remove_partition(&self, topic: &str, partition: i32) {
        self.windows().lag.remove(&(topic.to_owned(), partition));
        let labels = [topic, &partition.to_string()];
        for gauge in [
            &self.partitions.lag,
            &self.partitions.deferred,
            &self.partitions.stranded,
            &self.partitions.frames,
            &self.partitions.halted,
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
                (&self.topics.decide_mean, &windows.processed),
                (&self.topics.send_mean, &windows.sent),
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

#[cfg(test)]
mod tests;
