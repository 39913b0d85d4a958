//! What Kafka's and the plugins' folders tell, written into metrics and health.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::halt::Halt;
use taskhost_core::record::TopicPartition;
use taskhost_core::task::PluginVersion;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::breakers::dependencies::{self, Breakers};
use crate::breakers::routes::{Deciding, RouteBreakers};
use crate::dependency::Dependency;
use crate::log::PublishObserver;
use crate::plugin::{PluginObserver, Refusal};
use crate::shared::{HaltObserver, Impurity, PurityObserver};
use crate::store::Store;
use crate::telemetry::LifeCycle;
use crate::telemetry::health::{DependencyState, ImpurePlugin, RefusedPlugin, RunningPlugin};
use crate::telemetry::{Metrics, Status};

/// Tells of breakers that open and close.
pub(super) struct Dependencies {
    store: Store,
    status: Status,
    metrics: Arc<Metrics>,
    life: LifeCycle,
}

impl Dependencies {
    /// Begins with both closed.
    pub(super) fn new(
        store: Store,
        status: Status,
        metrics: Arc<Metrics>,
        life: LifeCycle,
    ) -> Self {
        for name in Dependency::ALL {
            metrics.set_breaker(name.as_str(), false);
        }
        Self {
            store,
            status,
            metrics,
            life,
        }
    }

    fn down(&self, name: Dependency, reason: &str) {
        let reason = reason.to_owned();
        self.status
            .set_dependency(name, DependencyState::Down { reason });
    }
}

impl dependencies::Observer for Dependencies {
    fn opened(&self, name: Dependency, reason: &str) {
        self.down(name, reason);
        let name = name.as_str();
        self.metrics.set_breaker(name, true);
        tracing::warn!(
            breaker = name,
            reason,
            "a dependency is away; partitions pause until it is back, nothing is lost"
        );
        let fields = [("breaker", name), ("reason", reason)];
        self.life.tell("breaker.opened", &fields);
    }

    fn still_open(&self, name: Dependency, reason: &str) {
        self.down(name, reason);
        tracing::debug!(
            breaker = name.as_str(),
            reason,
            "a dependency is still away"
        );
    }

    fn closed(&self, name: Dependency, after: Duration) {
        if name == Dependency::Postgres {
            self.store.renew();
        }
        self.status.set_dependency(name, DependencyState::Up);
        let (name, after_ms) = (name.as_str(), after.as_millis().to_string());
        self.metrics.set_breaker(name, false);
        tracing::info!(
            breaker = name,
            after_ms,
            "the dependency is back; partitions go on"
        );
        let fields = [("breaker", name), ("afterMs", &*after_ms)];
        self.life.tell("breaker.closed", &fields);
    }
}

/// Counts what is published, and tells what keeps it from being.
pub(super) struct Publishing {
    pub(super) metrics: Arc<Metrics>,
    pub(super) status: Status,
    pub(super) breakers: Arc<Breakers>,
}

impl PublishObserver for Publishing {
    fn sent(&self, topic: &str, messages: u64) {
        self.metrics.sent(topic, messages);
    }

    fn failed(&self, topic: &str, messages: u64) {
        self.metrics.send_failed(topic, messages);
    }

    fn send_duration(&self, topic: &str, duration: Duration) {
        self.metrics.send_took(topic, duration);
    }

    fn refused(&self, reason: Option<&str>) {
        self.status
            .set_trouble("publisher", reason.map(str::to_owned));
    }

    fn transaction(&self, _messages: u64, duration: Duration) {
        self.metrics.published(duration);
    }

    fn aborted(&self, _reason: &str) {
        self.breakers.suspect(Dependency::Kafka);
    }
}

/// Tells of swaps and refusals.
pub(super) struct Plugins {
    pub(super) status: Status,
    pub(super) metrics: Arc<Metrics>,
    pub(super) life: LifeCycle,
    pub(super) breakers: Arc<RouteBreakers>,
    pub(super) swaps: mpsc::Sender<String>,
}

impl PluginObserver for Plugins {
    fn refused(&self, route: &str, refusal: &Refusal) {
        self.metrics.plugin_refused(route);
        self.life.tell(
            "plugin.refused",
            &[
                ("route", route),
                ("file", &refusal.file),
                ("reason", &refusal.reason),
            ],
        );
        self.status.refuse_plugin(RefusedPlugin {
            route: route.to_owned(),
            file: refusal.file.clone(),
            digest: refusal.digest.clone(),
            reason: refusal.reason.clone(),
            at: refusal.at,
        });
    }

    fn swapped(&self, route: &str, version: &PluginVersion, number: i64) {
        let deciding = Deciding {
            activation: number,
            digest: version.digest.clone(),
        };
        self.metrics
            .set_plugin(route, &version.name, &version.version, &version.digest);
        let (name, digest, activation) = (&*version.name, &*version.digest, number.to_string());
        let fields = [
            ("route", route),
            ("plugin", name),
            ("version", &version.version),
            ("digest", digest),
            ("activation", &activation),
        ];
        self.life.tell("plugin.activated", &fields);
        self.status.set_plugin(RunningPlugin {
            route: route.to_owned(),
            name: version.name.clone(),
            version: version.version.clone(),
            digest: version.digest.clone(),
            activation: number,
            since: OffsetDateTime::now_utc(),
        });
        // Last, as it lets messages be tried: that is told after the version that tries them.
        self.breakers.activated(route, deciding);
        // One that is dropped costs time: what is held is due when the probation ends.
        let _ = self.swaps.try_send(route.to_owned());
    }

    fn log_dropped(&self, digest: &str, lines: u64) {
        tracing::warn!(
            digest,
            lines,
            "a plugin wrote more lines than a batch may have; the rest is dropped"
        );
    }
}

/// Tells of plugins that decide otherwise when they are asked again.
pub(super) struct Impurities {
    pub(super) status: Status,
    pub(super) life: LifeCycle,
}

impl PurityObserver for Impurities {
    fn impure(&self, found: &Impurity, is_first: bool) {
        let (route, plugin) = (&*found.decider.route, &*found.decider.plugin);
        let (message, task) = (found.position.to_string(), found.task_id.as_str());
        if is_first {
            let fields = [
                ("route", route),
                ("plugin", &plugin.name),
                ("version", &plugin.version),
                ("digest", &plugin.digest),
                ("message", &message),
                ("task", task),
                ("difference", &found.difference),
            ];
            self.life.tell("plugin.impure", &fields);
        }
        self.status.set_impure(ImpurePlugin {
            route: route.to_owned(),
            name: plugin.name.clone(),
            version: plugin.version.clone(),
            digest: plugin.digest.clone(),
            message,
            task: task.to_owned(),
            difference: found.difference.clone(),
            at: OffsetDateTime::now_utc(),
        });
    }
}

/// Tells of partitions that stand still.
pub(super) struct Halts(pub(super) LifeCycle);

impl Halts {
    fn tell(&self, kind: &str, partition: &TopicPartition, more: &[(&str, &str)]) {
        let number = partition.partition.to_string();
        let mut fields = vec![("topic", &*partition.topic), ("partition", &number)];
        fields.extend(more);
        self.0.tell(kind, &fields);
    }
}

impl std::fmt::Debug for Halts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Halts")
    }
}

impl HaltObserver for Halts {
    fn halted(&self, partition: &TopicPartition, halt: &Halt) {
        let (text, next_step) = (halt.to_string(), halt.next_step(partition));
        let more = [
            ("reason", halt.code()),
            ("text", &text),
            ("nextStep", &next_step),
        ];
        self.tell("partition.halted", partition, &more);
    }

    fn resolved(&self, partition: &TopicPartition) {
        self.tell("partition.resolved", partition, &[]);
    }
}
