//! The Kafka section as librdkafka's properties, names and texts. Clients are created elsewhere.
//!
//! Consumer, producer and admin client share [`client_properties`]. Properties that exactly once depends on are not
//! settings: [`FIXED`] has them, each with its reason.

use std::path::Path;
use std::time::Duration;

use super::{Delivery, GroupProtocol, Kafka, SaslMechanism};
use crate::config::value::millis;

/// A property that nobody can set, because the protocol depends on it.
#[derive(Debug)]
pub struct FixedProperty {
    /// Which client has it: `all`, `consumer`, `consumer (classic)` or `producer`.
    pub client: &'static str,
    /// librdkafka's name.
    pub name: &'static str,
    /// Its value.
    pub value: &'static str,
    /// The reason.
    pub why: &'static str,
}

/// The properties that nobody can set.
pub const FIXED: &[FixedProperty] = &[
    fixed(
        "all",
        "log.connection.close",
        "false",
        "brokers close idle connections, which is normal",
    ),
    fixed(
        "all",
        "reconnect.backoff.max.ms",
        "1000",
        "after a long outage, brokers are found again within a second or two, instead of 15",
    ),
    fixed(
        "consumer",
        "enable.auto.commit",
        "false",
        "offsets are committed with each publishing transaction, many times a second",
    ),
    fixed(
        "consumer",
        "enable.auto.offset.store",
        "false",
        "an offset counts once its batch is published, not once it is read",
    ),
    fixed(
        "consumer",
        "auto.offset.reset",
        "error",
        "a lost position halts its partition, instead of a silent jump",
    ),
    fixed(
        "consumer",
        "enable.partition.eof",
        "true",
        "the end of a partition has the offset after commit markers",
    ),
    fixed(
        "consumer",
        "isolation.level",
        "read_committed",
        "aborted messages are never decided, and a new owner waits for the old one's transaction",
    ),
    fixed(
        "consumer",
        "allow.auto.create.topics",
        "false",
        "topics are created by the admin API, with the right number of partitions",
    ),
    fixed(
        "consumer",
        "topic.metadata.refresh.interval.ms",
        "5000",
        "a partition that is added to a topic is taken within seconds instead of five minutes",
    ),
    fixed(
        "consumer (classic)",
        "partition.assignment.strategy",
        "cooperative-sticky",
        "a rebalance stops only the partitions that move",
    ),
    fixed(
        "producer",
        "topic.metadata.propagation.max.ms",
        "3000",
        "a missing topic is known after 3 s, instead of delaying every partition for 30",
    ),
];

const fn fixed(
    client: &'static str,
    name: &'static str,
    value: &'static str,
    why: &'static str,
) -> FixedProperty {
    FixedProperty {
        client,
        name,
        value,
        why,
    }
}

/// Properties by name, in the order for librdkafka.
pub type Properties = Vec<(&'static str, String)>;

/// The properties of every client: brokers, identity, security, timeouts.
#[must_use]
pub fn client_properties(kafka: &Kafka) -> Properties {
    let mut properties = vec![
        ("bootstrap.servers", kafka.brokers.join(",")),
        ("client.id", kafka.client_id.clone()),
        ("security.protocol", security_protocol(kafka).to_owned()),
        (
            "socket.connection.setup.timeout.ms",
            ms(kafka.connection_timeout),
        ),
        ("socket.timeout.ms", ms(kafka.request_timeout)),
        ("retry.backoff.ms", ms(kafka.retry_backoff)),
        // librdkafka requires that the longest delay is not shorter than the first; 1 s is its default.
        (
            "retry.backoff.max.ms",
            ms(kafka.retry_backoff.max(Duration::from_secs(1))),
        ),
    ];
    if kafka.ssl_enabled {
        properties.extend(tls_properties(kafka));
    }
    if kafka.sasl_enabled {
        properties.extend(sasl_properties(kafka));
    }
    properties.extend(fixed_for("all"));
    properties
}

/// The properties of the consumer, with [`client_properties`].
#[must_use]
pub fn consumer_properties(kafka: &Kafka) -> Properties {
    let mut properties = client_properties(kafka);
    properties.extend([
        ("group.id", kafka.group_id.clone()),
        ("group.protocol", kafka.group_protocol.as_str().to_owned()),
        ("max.poll.interval.ms", ms(kafka.max_poll_interval)),
        (
            "max.partition.fetch.bytes",
            kafka.max_bytes_per_partition.to_string(),
        ),
        (
            "queued.max.messages.kbytes",
            (kafka.fetch_queue_bytes_max / 1024).to_string(),
        ),
    ]);
    properties.extend(fixed_for("consumer"));
    // Under the newer protocol the broker decides these, and librdkafka refuses to set them.
    if kafka.group_protocol == GroupProtocol::Classic {
        properties.push(("session.timeout.ms", ms(kafka.session_timeout)));
        properties.push(("heartbeat.interval.ms", ms(kafka.heartbeat_interval)));
        properties.extend(fixed_for("consumer (classic)"));
    }
    properties
}

/// The properties of a producer, with [`client_properties`]. The transactional id isn't among them: each producer has
/// its own.
#[must_use]
pub fn producer_properties(kafka: &Kafka) -> Properties {
    let mut properties = client_properties(kafka);
    properties.extend([
        ("enable.idempotence", kafka.idempotent.to_string()),
        ("acks", kafka.acks.as_str().to_owned()),
        (
            "max.in.flight.requests.per.connection",
            kafka.max_in_flight.to_string(),
        ),
        ("compression.type", kafka.compression.as_str().to_owned()),
        ("linger.ms", ms(kafka.linger)),
        ("request.timeout.ms", ms(kafka.request_timeout)),
        ("message.timeout.ms", ms(message_timeout(kafka))),
        (
            "queue.buffering.max.kbytes",
            (kafka.send_queue_bytes_max / 1024).to_string(),
        ),
    ]);
    if kafka.delivery == Delivery::ExactlyOnce {
        properties.push(("transaction.timeout.ms", ms(kafka.transaction_timeout)));
    }
    properties.extend(fixed_for("producer"));
    properties
}

/// How long the delivery of one message may take: a third of the transaction timeout. So a transaction learns of a lost
/// message while there is still time to abort it.
#[must_use]
pub fn message_timeout(kafka: &Kafka) -> Duration {
    kafka.transaction_timeout / 3
}

fn security_protocol(kafka: &Kafka) -> &'static str {
    match (kafka.ssl_enabled, kafka.sasl_enabled) {
        (false, false) => "PLAINTEXT",
        (true, false) => "SSL",
        (false, true) => "SASL_PLAINTEXT",
        (true, true) => "SASL_SSL",
    }
}

fn tls_properties(kafka: &Kafka) -> Properties {
    let files: [(&'static str, Option<&Path>); 3] = [
        ("ssl.ca.location", kafka.ssl_ca.as_deref()),
        ("ssl.certificate.location", kafka.ssl_cert.as_deref()),
        ("ssl.key.location", kafka.ssl_key.as_deref()),
    ];
    let mut properties: Properties = files
        .into_iter()
        .filter_map(|(name, path)| path.map(|path| (name, path.display().to_string())))
        .collect();
    if let Some(password) = &kafka.ssl_key_password {
        properties.push(("ssl.key.password", password.expose().to_owned()));
    }
    let verify = kafka.ssl_reject_unauthorized;
    properties.push(("enable.ssl.certificate.verification", verify.to_string()));
    properties
}

fn sasl_properties(kafka: &Kafka) -> Properties {
    let mechanism = match kafka.sasl_mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
    };
    let mut properties = vec![("sasl.mechanism", mechanism.to_owned())];
    if let Some(username) = &kafka.sasl_username {
        properties.push(("sasl.username", username.clone()));
    }
    if let Some(password) = &kafka.sasl_password {
        properties.push(("sasl.password", password.expose().to_owned()));
    }
    properties
}

fn fixed_for(client: &str) -> impl Iterator<Item = (&'static str, String)> {
    FIXED
        .iter()
        .filter(move |property| property.client == client)
        .map(|property| (property.name, property.value.to_owned()))
}

fn ms(duration: Duration) -> String {
    millis(duration).to_string()
}
