//! Sees to it that the topics are there that the host needs, and asks how large a record each takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::topics::{consumed, needs};
use super::waiting::{Missing, until_kafka_answers};
use super::{Error, rights};
use crate::config::Config;
use crate::kafka::{self, Admin, Disposition, Limits, MissingRight};
use crate::telemetry::Status;

/// Partitions of a topic that has to be made and has no source whose number it could take.
const PARTITIONS: i32 = 4;

/// What a dead letter's own headers may add to its message, so that a message that fits its topic fits the
/// dead letter topic: the message text, the backtrace and 4 KiB for the rest.
const DEAD_LETTER_ROOM: usize = 24 * 1024;

/// How long to wait between two looks for a topic that somebody else makes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Makes the topics that are missing, where that is wanted and allowed, and reads what each takes.
pub(super) async fn topics(
    config: &Config,
    settings: &kafka::Settings,
    admin: &Admin,
    limits: &Arc<Limits>,
    status: &Status,
) -> Result<(), Error> {
    let step = || ensure_once(config, admin, limits);
    until_kafka_answers(config, settings, status, step).await
}

async fn ensure_once(config: &Config, admin: &Admin, limits: &Arc<Limits>) -> Result<(), Missing> {
    let needs = needs(config);
    let lacking = admin.missing_rights(&needs).await?;
    let essential = rights::essential(&lacking);
    if !essential.is_empty() {
        return Err(Missing::Rights(essential));
    }
    // A topic that this user may not see is not known to be missing. Who has to send there finds out.
    let seen = |name: &&String| {
        let about = |right: &MissingRight| right.resource.name() == **name;
        !lacking.iter().any(about)
    };
    let sources = consumed(config);
    let wanted: BTreeSet<String> = sources
        .iter()
        .chain(&needs.produced)
        .filter(seen)
        .cloned()
        .collect();
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let there = admin.describe(&names).await?;
    let partitions = |name: &str| there.get(name).map(|topic| topic.partitions);
    let missing: Vec<String> = wanted
        .iter()
        .filter(|name| partitions(name).is_none())
        .cloned()
        .collect();
    if !missing.is_empty() && !config.kafka.auto_create_topics {
        return Err(Missing::Topics(format!(
            "these topics are missing: {}; make them, or set KAFKA_AUTO_CREATE_TOPICS=true",
            missing.join(", ")
        )));
    }
    create(config, admin, &missing, partitions).await?;
    wait_for(admin, &names).await?;
    let produced = needs.produced.iter().map(String::as_str);
    let sent: Vec<&str> = produced.filter(|name| names.contains(name)).collect();
    learn_limits(admin, limits, &sent).await;
    Ok(())
}

/// Makes the topics that are missing: those for dead letters with as many partitions as their source.
async fn create(
    config: &Config,
    admin: &Admin,
    missing: &[String],
    partitions: impl Fn(&str) -> Option<usize>,
) -> Result<(), Missing> {
    let sources = consumed(config);
    let mut refused = Vec::new();
    for name in missing {
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
    Ok(())
}

/// Asks what the topics take that this host sends to.
async fn learn_limits(admin: &Admin, limits: &Limits, sent: &[&str]) {
    match admin.limits(sent).await {
        Ok(known) => {
            let unknown = sent.iter().filter(|name| !known.contains_key(**name));
            let unknown: Vec<&str> = unknown.copied().collect();
            if !unknown.is_empty() {
                tracing::warn!(
                    "no right to DescribeConfigs topic {}: a record that is too large for it is found only when it is \
                     sent, and halts its partition; grant it to this host's user (docs/kafka-security.md)",
                    unknown.join(", ")
                );
            }
            limits.update(known);
        }
        Err(error) => {
            tracing::warn!(%error, "what the topics take is not known; a record that is too large is found when it is sent")
        }
    }
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
