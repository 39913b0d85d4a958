//! How taskhost talks to Kafka: brokers, identity, security, timeouts, delivery.
//!
//! The names and defaults are those of the system that taskhost replaces; what librdkafka calls them stands
//! in [`properties`], and what doesn't go together in [`checks`].

mod checks;
mod properties;

use std::path::PathBuf;
use std::time::Duration;

pub use properties::{
    FIXED, FixedProperty, Properties, client_properties, consumer_properties, message_timeout,
    producer_properties,
};

use super::setting::section;
use super::value::{Secret, choices};

section! {
    /// Everything about the connection to Kafka.
    pub struct Kafka in "kafka" {
        /// The brokers to ask first, as host:port.
        brokers: Vec<String> = "localhost:9092", "KAFKA_BROKERS" => "bootstrap.servers";
        /// The name under which brokers see this client in their logs, metrics and quotas.
        client_id: String = "task-manager", "KAFKA_CLIENT_ID" => "client.id";
        /// The consumer group. All hosts of one deployment share it.
        group_id: String = "task-manager-group", "KAFKA_GROUP_ID" => "group.id";
        /// The first part of every transactional id; without one it is the group id.
        transactional_id_prefix: Option<String> = "", "TASKHOST_TRANSACTIONAL_ID_PREFIX"
            => "transactional.id = `<prefix>-<uuid of the process>-<n>`";
        /// How the group shares its partitions out: the classic protocol, or Kafka 4's own (KIP-848).
        group_protocol: GroupProtocol = "classic", "KAFKA_GROUP_PROTOCOL" => "group.protocol";
        /// Whether connections are encrypted.
        ssl_enabled: bool = "false", "KAFKA_SSL_ENABLED" => "security.protocol";
        /// File of the certificate authorities that may sign a broker's certificate; the system's without one.
        ssl_ca: Option<PathBuf> = "", "KAFKA_SSL_CA" => "ssl.ca.location";
        /// File of the client's certificate, for brokers that ask for one.
        ssl_cert: Option<PathBuf> = "", "KAFKA_SSL_CERT" => "ssl.certificate.location";
        /// File of the client's private key; goes with the certificate.
        ssl_key: Option<PathBuf> = "", "KAFKA_SSL_KEY" => "ssl.key.location";
        /// What the private key is encrypted with, if it is.
        ssl_key_password: Option<Secret> = "", "KAFKA_SSL_KEY_PASSWORD" => "ssl.key.password";
        /// Whether a broker's certificate must be valid. With false anybody can pose as a broker, and each start warns.
        ssl_reject_unauthorized: bool = "true", "KAFKA_SSL_REJECT_UNAUTHORIZED"
            => "enable.ssl.certificate.verification";
        /// Whether to log in to the brokers.
        sasl_enabled: bool = "false", "KAFKA_SASL_ENABLED" => "security.protocol";
        /// The user to log in as.
        sasl_username: Option<String> = "", "KAFKA_SASL_USERNAME" => "sasl.username";
        /// The user's password.
        sasl_password: Option<Secret> = "", "KAFKA_SASL_PASSWORD" => "sasl.password";
        /// How the password is proved; upper or lower case.
        sasl_mechanism: SaslMechanism = "plain", "KAFKA_SASL_MECHANISM" => "sasl.mechanism";
        /// How long setting up one connection may take, TLS and login included.
        connection_timeout: Duration = "3000" [1000..=2147483647], "KAFKA_CONNECTION_TIMEOUT"
            => "socket.connection.setup.timeout.ms";
        /// How long a broker may take to answer one request; at most the transaction timeout and 100 ms.
        request_timeout: Duration = "30000" [10..=300000], "KAFKA_REQUEST_TIMEOUT"
            => "socket.timeout.ms, request.timeout.ms";
        /// How long a host may be silent before the group gives its partitions to others; classic protocol only.
        session_timeout: Duration = "30000" [1..=3600000], "KAFKA_SESSION_TIMEOUT" => "session.timeout.ms";
        /// How often a host says that it lives, at most a third of the session timeout; classic protocol only.
        heartbeat_interval: Duration = "3000" [1..=3600000], "KAFKA_HEARTBEAT_INTERVAL" => "heartbeat.interval.ms";
        /// How long the poll thread may be stuck before the host leaves the group; at least the session timeout.
        max_poll_interval: Duration = "300000" [1..=86400000], "KAFKA_MAX_POLL_INTERVAL" => "max.poll.interval.ms";
        /// The first wait before something is tried again; later waits grow from it.
        retry_backoff: Duration = "100" [1..=300000], "KAFKA_RETRY_BACKOFF"
            => "retry.backoff.ms, and the base of the host's own retries";
        /// How often something is tried again: 3 means one try and three more.
        max_retry_attempts: u32 = "3" [0..=1000], "KAFKA_MAX_RETRY_ATTEMPTS" => "the number of the host's own retries";
        /// What a reader of the outgoing messages is promised.
        delivery: Delivery = "exactly-once", "TASKHOST_DELIVERY" => "publishing in transactions, or without";
        /// Whether the producer keeps order and drops its own duplicates; exactly-once needs it.
        idempotent: bool = "true", "KAFKA_IDEMPOTENT" => "enable.idempotence";
        /// How long a transaction may be open before the broker ends it.
        transaction_timeout: Duration = "30000" [1000..=2147483647], "KAFKA_TRANSACTION_TIMEOUT"
            => "transaction.timeout.ms; a third of it is message.timeout.ms";
        /// Who must have a message before it counts as sent; 1 goes only with at-least-once and without idempotence.
        acks: Acks = "all", "KAFKA_ACKS" => "acks";
        /// Requests on the way to one broker at a time; up to 5 keeps order under idempotence.
        max_in_flight: u32 = "5" [1..=1000000], "KAFKA_MAX_IN_FLIGHT" => "max.in.flight.requests.per.connection";
        /// How outgoing messages are compressed; a reader built on kafkajs alone reads only none and gzip.
        compression: Compression = "lz4", "KAFKA_COMPRESSION" => "compression.type";
        /// How long an outgoing message waits for company; whole batches are sent anyway.
        linger: Duration = "0" [0..=900000], "KAFKA_LINGER" => "linger.ms";
        /// The most that one fetch brings from one partition.
        max_bytes_per_partition: u64 = "1048576" [1..=1000000000 bytes], "KAFKA_MAX_BYTES_PER_PARTITION"
            => "max.partition.fetch.bytes";
        /// The most that waits in memory between Kafka and the workers; bounds the memory of a host that falls behind.
        fetch_queue_bytes_max: u64 = "16777216" [1024..=2147482624 bytes], "KAFKA_FETCH_QUEUE_BYTES_MAX"
            => "queued.max.messages.kbytes";
        /// The most that waits in memory on its way out.
        send_queue_bytes_max: u64 = "67108864" [1024..=1099511627776 bytes], "KAFKA_SEND_QUEUE_BYTES_MAX"
            => "queue.buffering.max.kbytes";
        /// Where a group starts that has never been here.
        auto_offset_reset: AutoOffsetReset = "earliest", "KAFKA_AUTO_OFFSET_RESET"
            => "the first offset of a partition without a committed one";
        /// Where a partition starts that no taskhost of this group ever had: at the offset that another consumer committed
        /// for the group, or at the oldest message whatever is committed. Afterwards it has no effect.
        start: Start = "committed", "TASKHOST_START" => "the first offset of a partition with a committed one";
        /// Whether the host creates topics that are missing. Otherwise the start names each of them.
        auto_create_topics: bool = "true", "KAFKA_AUTO_CREATE_TOPICS" => "the admin API's CreateTopics";
    }
}

impl Kafka {
    /// The first part of every transactional id: as set, else the group id.
    #[must_use]
    pub fn transactional_prefix(&self) -> &str {
        self.transactional_id_prefix
            .as_deref()
            .unwrap_or(&self.group_id)
    }
}

choices! {
    /// How a consumer group shares its partitions out.
    pub enum GroupProtocol {
        /// The members agree among themselves; works with every broker.
        Classic = "classic",
        /// The broker assigns (KIP-848); Kafka 4.0 and later.
        Consumer = "consumer",
    }
}

choices! {
    /// How a password is proved to a broker.
    pub enum SaslMechanism {
        /// The password itself, so only over TLS.
        Plain = "plain",
        /// A salted challenge with SHA-256.
        ScramSha256 = "scram-sha-256",
        /// A salted challenge with SHA-512.
        ScramSha512 = "scram-sha-512",
    }
}

choices! {
    /// What a reader of the outgoing messages is promised.
    pub enum Delivery {
        /// Each message once, for readers with `isolation.level=read_committed`.
        ExactlyOnce = "exactly-once",
        /// Each message at least once; after a crash perhaps again.
        AtLeastOnce = "at-least-once",
    }
}

choices! {
    /// Who must have a message before it counts as sent.
    pub enum Acks {
        /// All replicas in sync.
        All = "all" | "-1",
        /// The partition's leader alone.
        Leader = "1",
    }
}

choices! {
    /// How outgoing messages are compressed; a reader built on kafkajs alone reads only none and gzip.
    pub enum Compression {
        /// Not at all.
        None = "none",
        /// gzip.
        Gzip = "gzip",
        /// Snappy.
        Snappy = "snappy",
        /// LZ4.
        Lz4 = "lz4",
        /// Zstandard.
        Zstd = "zstd",
    }
}

choices! {
    /// Where a partition starts that no taskhost of this group ever had.
    pub enum Start {
        /// At the offset that another consumer committed for the group.
        Committed = "committed",
        /// At the oldest message there is.
        Earliest = "earliest",
    }
}

choices! {
    /// Where a group starts that has never been here.
    pub enum AutoOffsetReset {
        /// At the oldest message there is.
        Earliest = "earliest",
        /// At the next message to come.
        Latest = "latest",
    }
}
