//! What Kafka's and the plugins' folders tell, written into metrics and health.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::halt::Halt;
use taskhost_core::record::TopicPartition;
use taskhost_core::task::PluginVersion;
use time::OffsetDateTime;

use super::life::LifeCycle;
use crate::kafka::PublishObserver;
use crate::plugin::{PluginObserver, Refusal};
use crate::telemetry::health::{RefusedPlugin, RunningPlugin};
use crate::telemetry::{Metrics, Status};
use crate::worker::HaltObserver;

/// Counts what is published.
pub(super) struct Publishing(pub(super) Arc<Metrics>);

impl PublishObserver for Publishing {
    fn sent(&self, topic: &str, messages: u64) {
        self.0.sent(topic, messages);
    }

    fn failed(&self, topic: &str, messages: u64) {
        self.0.send_failed(topic, messages);
    }

    fn send_duration(&self, topic: &str, duration: Duration) {
        self.0.send_took(topic, duration);
    }

    fn transaction(&self, _messages: u64, duration: Duration) {
        self.0.published(duration);
    }
}

/// Tells of swaps and refusals.
pub(super) struct Plugins {
    pub(super) status: Status,
    pub(super) metrics: Arc<Metrics>,
    pub(super) life: LifeCycle,
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
    }

    fn log_dropped(&self, digest: &str, lines: u64) {
        tracing::warn!(
            digest,
            lines,
            "a plugin wrote more lines than a batch may have; the rest is dropped"
        );
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
