//! Kafka for commands: connects, says why it can't, and sends records.

use std::time::Duration;

use taskhost_core::record::Record;

use super::Failure;
use crate::app;
use crate::config::Config;
use crate::config::kafka::Delivery;
use crate::kafka::{self, Cause, Diagnosis, Disposition, MissingRight, Sender, Settings};

/// Time on top of setting up one connection: for a second connection, and for the answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// The brokers and topics of a cluster, from its own answer.
pub(super) struct Cluster {
    pub(super) settings: Settings,
    pub(super) brokers: Vec<kafka::Broker>,
    pub(super) topics: Vec<kafka::Topic>,
}

/// Asks the configured brokers for their cluster's brokers and topics. Blocks.
pub(super) fn diagnose(config: &Config) -> Result<Cluster, Diagnosis> {
    let settings = app::kafka_settings(config);
    let (brokers, mut topics) = kafka::diagnose(&settings, patience(config))?;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Cluster {
        settings,
        brokers,
        topics,
    })
}

/// The rights that a host needs and this user lacks. Blocks.
pub(super) fn missing_rights(
    config: &Config,
    cluster: &Cluster,
) -> Result<Vec<MissingRight>, Failure> {
    let (settings, patience) = (&cluster.settings, patience(config));
    let failed = |error: kafka::Error| Failure::of("kafka", &error);
    let needs = app::needs(config);
    let mut missing = kafka::missing_rights(settings, &needs, patience).map_err(failed)?;
    if config.kafka.delivery == Delivery::ExactlyOnce {
        missing.extend(kafka::may_transact(settings, patience).map_err(failed)?);
    }
    Ok(missing)
}

/// [`diagnose`] for commands that need a connection.
pub(super) fn reach(config: &Config) -> Result<Cluster, Failure> {
    diagnose(config).map_err(|diagnosis| out_of_reach(config, &diagnosis))
}

/// The message about a cluster that can't be reached.
pub(super) fn out_of_reach(config: &Config, diagnosis: &Diagnosis) -> Failure {
    if diagnosis.cause == Cause::Configuration {
        return Failure::Usage(diagnosis.to_string());
    }
    let kind = diagnosis.cause.name().replace('-', " ");
    let brokers = config.kafka.brokers.join(",");
    Failure::Failed(format!(
        "kafka at {brokers} can't be reached ({kind}): {diagnosis}"
    ))
}

/// Sends records and waits until the broker has them. Blocks.
pub(super) fn send(sender: &Sender, records: &[Record], config: &Config) -> Result<(), Failure> {
    let topic = records.first().map_or("", |record| record.topic.as_str());
    sender.send(records, config.kafka.request_timeout).map_err(|error| match error.disposition() {
        Disposition::UnknownTopic => Failure::Failed(format!(
            "the topic {topic} does not exist; a host creates it when it starts (`taskhost dev` or `taskhost run`)"
        )),
        _ => Failure::Failed(format!("{error}; `taskhost test-kafka` may show the cause")),
    })
}

/// A producer.
pub(super) fn sender(settings: &Settings) -> Result<Sender, Failure> {
    Sender::new(settings).map_err(|error| Failure::of("kafka", &error))
}

/// How long the brokers may take to answer.
pub(super) fn patience(config: &Config) -> Duration {
    config.kafka.connection_timeout + ANSWER_MARGIN
}
