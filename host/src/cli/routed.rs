//! The routes of the configuration by the names that people give.

use super::Failure;
use crate::config::Config;

/// The number of a route.
pub(super) fn number_of(config: &Config, name: &str) -> Result<usize, Failure> {
    config
        .routes
        .iter()
        .position(|route| route.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = config
                .routes
                .iter()
                .map(|route| route.name.as_str())
                .collect();
            Failure::Usage(format!(
                "there is no route {name}; the routes are {}",
                names.join(", ")
            ))
        })
}

/// A topic's name in Kafka.
pub(super) fn real_topic(config: &Config, topic: &str) -> String {
    let routed = config.routes.iter().find(|route| route.topic == topic);
    routed.map_or(topic, |route| &route.real_topic).to_owned()
}
