//! Kafka, and the only place that names rdkafka.
//!
//! ```text
//!            poll thread                        worker (one for each partition)
//!  broker ──► Consumer ──► Feed (bounded) ──────► decides, commits to Postgres
//!                │  revoke: tags dropped                     │ frames
//!                ▼  under one lock                           ▼
//!            Ownership ◄──── tags checked ────────── Publisher (thread) ──► broker
//!                                                   records + group offset, one transaction
//! ```
//!
//! Invariants: nothing is published for a partition whose tag is no longer valid. Every partition's frames are published in
//! order without a gap. The metadata of the group's committed offset has the number of the last published batch.
//!
//! Left to others: when to add a partition and from which offset, what to decide, and how to handle the publisher's answers.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;

mod admin;
mod cause;
mod client;
mod committed;
mod consumer;
mod context;
mod diagnose;
mod error;
mod fence;
mod ffi;
mod ids;
mod limits;
mod log;
mod membership;
mod nudge;
mod poll;
mod positions;
mod producer;
mod publish;
mod reader;
mod rebootstrap;
mod reporting;
mod rights;
mod scan;
mod tail;

pub use crate::log::{Disposition, Error, GRANT_IT, MissingRight, Operation, Resource, Result};
pub use admin::{Admin, Broker, Topic};
pub use client::Sender;
pub use consumer::Consumer;
pub use diagnose::{Cause, Diagnosis, diagnose};
pub use fence::fence;
pub use ffi::describe::{Group, GroupMember, TopicDescription};
pub use limits::Limits;
pub use log::KafkaLog;
pub use membership::Assignment;
pub use positions::Positions;
pub use publish::{Following, publisher};
pub use rights::{Needs, may_transact, missing_rights};
pub use scan::{Scan, read_committed};
pub use tail::Tail;

/// librdkafka's properties from the host's configuration, by kind of client.
#[derive(Clone, Default)]
pub struct Settings {
    /// For every client: brokers, security, timeouts.
    pub client: Vec<(String, String)>,
    /// For consumers, on top of `client`.
    pub consumer: Vec<(String, String)>,
    /// For producers, on top of `client`.
    pub producer: Vec<(String, String)>,
    /// Name of the consumer group.
    pub group: String,
    /// What transactional ids begin with: `<prefix>-<uuid of the process>-<n>`.
    pub transactional_prefix: String,
    /// Whether messages are published without transactions: each at least once.
    pub at_least_once: bool,
    /// Bytes of messages in one transaction, beyond which the next one takes what is left.
    pub transaction_bytes_max: usize,
}

impl Settings {
    /// Properties of a plain client.
    pub(crate) fn for_client(&self) -> ClientConfig {
        config([&self.client])
    }

    /// Properties of the group's consumer. Those that correctness depends on are forced.
    pub(crate) fn for_consumer(&self) -> ClientConfig {
        let mut config = config([&self.client, &self.consumer]);
        config.set("group.id", &self.group);
        for (name, value) in CONSUMER_FORCED {
            config.set(*name, *value);
        }
        if is_classic(&config) {
            config.set("partition.assignment.strategy", ffi::describe::ASSIGNOR);
        }
        for (name, value) in CONSUMER_DEFAULTS {
            if config.get(name).is_none() {
                config.set(*name, *value);
            }
        }
        config
    }

    /// Properties of a producer without transactions.
    pub(crate) fn for_producer(&self) -> ClientConfig {
        let mut config = config([&self.client, &self.producer]);
        for (name, value) in PRODUCER_FORCED {
            config.set(*name, *value);
        }
        config
    }

    /// Properties of the producer that publishes at least once: idempotence and acks are as configured.
    pub(crate) fn for_at_least_once(&self) -> ClientConfig {
        let mut config = config([&self.client, &self.producer]);
        for (name, value) in PRODUCER_FORCED {
            if !matches!(*name, "enable.idempotence" | "acks") {
                config.set(*name, *value);
            }
        }
        config
    }

    /// Properties of the producer with that transactional id.
    pub(crate) fn for_transactions(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.for_producer();
        config.set("transactional.id", transactional_id);
        let timeout_ms = config
            .get("transaction.timeout.ms")
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(TRANSACTION_TIMEOUT_MS);
        config.set("transaction.timeout.ms", timeout_ms.to_string());
        // A message that can't be delivered must be known while its transaction can still be aborted.
        config.set("message.timeout.ms", (timeout_ms / 3).max(1).to_string());
        config
    }
}

/// Values may be secrets: only the names are shown.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |list: &[(String, String)]| {
            list.iter()
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        f.debug_struct("Settings")
            .field("client", &names(&self.client))
            .field("consumer", &names(&self.consumer))
            .field("producer", &names(&self.producer))
            .field("group", &self.group)
            .field("transactional_prefix", &self.transactional_prefix)
            .finish()
    }
}

/// A transaction's time to live where nothing else is configured; the host's own default.
const TRANSACTION_TIMEOUT_MS: u64 = 30_000;

/// Without these properties, messages would be lost, repeated, or read before they are committed.
const CONSUMER_FORCED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
];

/// A paused partition's prefetched messages are dropped and fetched again, so there should be few. librdkafka's own
/// defaults are 100,000 messages and 64 MiB. With fewer messages its queue is full more often, and by default it then looks
/// again only after a second.
const CONSUMER_DEFAULTS: &[(&str, &str)] = &[
    ("queued.min.messages", "5000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "10"),
];

/// `murmur2_random` is the partitioner of Java's producer, so that equal keys are in the same partition for all producers.
/// The size is high enough for the topic's own limit to decide, and below a broker's largest request
/// (100 MiB). A missing topic must be known within seconds: it delays every partition's transaction.
const PRODUCER_FORCED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    ("message.max.bytes", "67108864"),
    ("topic.metadata.propagation.max.ms", "3000"),
];

/// Whether the group's members assign its partitions; under the newer protocol the broker does.
pub(crate) fn is_classic(consumer: &ClientConfig) -> bool {
    consumer
        .get("group.protocol")
        .is_none_or(|protocol| protocol.eq_ignore_ascii_case("classic"))
}

fn config<'a>(lists: impl IntoIterator<Item = &'a Vec<(String, String)>>) -> ClientConfig {
    let merged: BTreeMap<&str, &str> = lists
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut config = ClientConfig::new();
    for (name, value) in merged {
        config.set(name, value);
    }
    config.set_log_level(rdkafka::config::RDKafkaLogLevel::Info);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, value: &str) -> Settings {
        let list = vec![(name.to_owned(), value.to_owned())];
        Settings {
            consumer: list.clone(),
            producer: list,
            group: "g".into(),
            ..Settings::default()
        }
    }

    #[test]
    fn what_correctness_rests_on_can_not_be_configured_away() {
        let config = settings("enable.auto.commit", "true").for_consumer();
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        let config = settings("partitioner", "random").for_transactions("id");
        assert_eq!(config.get("partitioner"), Some("murmur2_random"));
    }

    #[test]
    fn a_message_gives_up_long_before_its_transaction() {
        let config = settings("transaction.timeout.ms", "9000").for_transactions("id");
        assert_eq!(config.get("message.timeout.ms"), Some("3000"));
    }

    #[test]
    fn the_newer_group_protocol_gets_no_assignor() {
        let config = settings("group.protocol", "consumer").for_consumer();
        assert_eq!(config.get("partition.assignment.strategy"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", settings("sasl.password", "hunter2")).contains("hunter2"));
    }
}
