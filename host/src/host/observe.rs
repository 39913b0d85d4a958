//! What Kafka's and the plugins' folders tell, written into metrics and health.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::task::PluginVersion;
use time::OffsetDateTime;

use super::life::LifeCycle;
use crate::kafka::PublishObserver;
use crate::plugin::{PluginObserver, Refusal};
use crate::telemetry::health::{RefusedPlugin, RunningPlugin};
use crate::telemetry::{Metrics, Status};

/// Counts what is published, and tells what keeps it from being.
pub(super) struct Publishing(pub(super) Arc<Metrics>, pub(super) Status);

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

    fn refused(&self, reason: Option<&str>) {
        self.1.set_trouble("publisher", reason.map(str::to_owned));
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
