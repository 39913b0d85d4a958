//! The topics that the host needs: which, that they are there, and how large a record each takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Error, probe, real_topics};
use crate::config::Config;
use crate::kafka::{self, Admin, Disposition, Limits};
use crate::telemetry::{Metrics, Status};

/// Partitions of a topic that has to be made and has no source whose number it could take.
const PARTITIONS: i32 = 4;

/// What a dead letter's own headers may add to its message, so that a message that fits its topic fits the
/// dead letter topic: the message text, the backtrace and 4 KiB for the rest.
const DEAD_LETTER_ROOM: usize = 24 * 1024;

/// How long to wait between two looks for a topic that somebody else makes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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

/// Makes the topics that are missing, where that is wanted and allowed, and reads what each takes.
pub(super) async fn ensure(
    config: &Config,
    admin: &Admin,
    limits: &Arc<Limits>,
    status: &Status,
) -> Result<(), Error> {
    probe::until_kafka_answers(config, status, || ensure_once(config, admin, limits)).await
}

/// Why the topics are not as they have to be.
pub(super) enum Missing {
    /// Kafka can't be asked.
    Kafka(kafka::Error),
    /// They are not there.
    Topics(String),
}

impl From<kafka::Error> for Missing {
    fn from(error: kafka::Error) -> Self {
        Self::Kafka(error)
    }
}

async fn ensure_once(config: &Config, admin: &Admin, limits: &Arc<Limits>) -> Result<(), Missing> {
    let (_, there) = admin.cluster().await?;
    let partitions = |name: &str| {
        there
            .iter()
            .find(|topic| topic.name == name)
            .map(|topic| topic.partitions)
    };
    let sources = consumed(config);
    let mut missing = Vec::new();
    for name in sources.iter().chain(&produced(config)) {
        if partitions(name).is_none() && !missing.contains(name) {
            missing.push(name.clone());
        }
    }
    if !missing.is_empty() && !config.kafka.auto_create_topics {
        return Err(Missing::Topics(format!(
            "these topics are missing: {}; make them, or set KAFKA_AUTO_CREATE_TOPICS=true",
            missing.join(", ")
        )));
    }
    let mut refused = Vec::new();
    for name in &missing {
        let source = sources
            .iter()
            .find(|source| config.dead_letter_topic(source) == **name);
        let created = match source {
            Some(source) => create_dead_letter_topic(admin, name, source, partitions(source)).await,
            None => admin.create(name, PARTITIONS).await,
        };
        match created {
            Ok(made) => tracing::info!(topic = name, made, "a missing topic was made"),
            Err(error) if error.disposition() == Disposition::Authorization => {
                refused.push(name.clone())
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !refused.is_empty() {
        return Err(Missing::Topics(format!(
            "these topics are missing and this host has no right to make them: {}; make them or grant it CREATE",
            refused.join(", ")
        )));
    }
    let names = produced(config);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    wait_for(admin, &names).await?;
    match admin.limits(&names).await {
        Ok(known) => limits.update(known),
        Err(error) => {
            tracing::warn!(%error, "what the topics take is not known; a record that is too large is found when it is sent")
        }
    }
    Ok(())
}

/// As many partitions as its source, and room for the headers that say why.
async fn create_dead_letter_topic(
    admin: &Admin,
    name: &str,
    source: &str,
    partitions: Option<usize>,
) -> kafka::Result<bool> {
    let partitions = partitions
        .and_then(|count| i32::try_from(count).ok())
        .unwrap_or(PARTITIONS);
    let known = admin
        .limits(&[source])
        .await
        .ok()
        .and_then(|limits| limits.get(source).copied());
    match known {
        Some(limit) => {
            let limit = (limit + DEAD_LETTER_ROOM).to_string();
            admin
                .create_with(name, partitions, &[("max.message.bytes", &limit)])
                .await
        }
        None => admin.create(name, partitions).await,
    }
}

/// A topic that was just made is not at once known to every broker.
async fn wait_for(admin: &Admin, names: &[&str]) -> kafka::Result<()> {
    for _ in 0..10 {
        let (_, there) = admin.cluster().await?;
        if names.iter().all(|name| {
            there
                .iter()
                .any(|topic| topic.name == *name && topic.partitions > 0)
        }) {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN / 10).await;
    }
    Ok(())
}
