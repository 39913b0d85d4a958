//! Which topics the host reads and writes.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::kafka::Needs;
use crate::telemetry::Metrics;

/// Real names of the topics that routes consume.
pub fn consumed(config: &Config) -> BTreeSet<String> {
    config
        .routes
        .iter()
        .map(|route| route.real_topic.clone())
        .collect()
}

/// Real names of the topics that the host may send to.
pub fn produced(config: &Config) -> BTreeSet<String> {
    let letters = consumed(config)
        .into_iter()
        .map(|topic| config.dead_letter_topic(&topic));
    real_topics(config).into_values().chain(letters).collect()
}

/// What the host needs rights for.
pub fn needs(config: &Config) -> Needs {
    // Requests come from outside: no host sends any.
    let sent = |topic: &String| *topic != config.topics.named.requests_web_crawl;
    Needs {
        consumed: consumed(config).into_iter().collect(),
        produced: produced(config).into_iter().filter(sent).collect(),
        group: config.kafka.group_id.clone(),
    }
}

/// Metrics are there at 0 from the start.
pub(super) fn declare(config: &Config, metrics: &Metrics) {
    consumed(config)
        .iter()
        .for_each(|topic| metrics.declare_consumed(topic));
    produced(config)
        .iter()
        .for_each(|topic| metrics.declare_produced(topic));
    config
        .routes
        .iter()
        .for_each(|route| metrics.declare_route(&route.name));
}

/// Real names of every logical topic that can be sent to. A consumed topic can be, too.
pub(super) fn real_topics(config: &Config) -> BTreeMap<String, String> {
    let configured = config
        .topics
        .iter()
        .map(|(logical, real)| (logical.to_owned(), real.to_owned()));
    let routed = config
        .routes
        .iter()
        .map(|route| (route.topic.clone(), route.real_topic.clone()));
    configured.chain(routed).collect()
}
