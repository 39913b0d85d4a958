//! The settings of the connection to Kafka: brokers, identity, security, timeouts, delivery.
//!
//! The names and defaults are those of the system that taskhost replaces. [`properties`] has librdkafka's names for
//! them, and [`checks`] finds contradictions.

mod checks;
mod properties;

use std::path::PathBuf;
use std::time::Duration;

pub use properties::{
    FIXED, FixedProperty, Properties, client_properties, consumer_properties, message_timeout,
    producer_properties,
};

use super::section::section;
use super::value::{Secret, choices};

section! {
    /// Everything about the connection to Kafka.
    pub struct Kafka in "kafka" {
        /// The brokers to connect to first, as host:port.
        brokers: Vec<String> = "localhost:9092", "KAFKA_BROKERS" => "bootstrap.servers";
        /// The name of this client in the brokers' logs, metrics and quotas.
        client_id: String = "task-manager", "KAFKA_CLIENT_ID" => "client.id";
        /// The consumer group. All hosts of one deployment share it.
        group_id: String = "task-manager-group", "KAFKA_GROUP_ID" => "group.id";
        /// The first part of every transactional id. Without it the group id is used.
        transactional_id_prefix: Option<String> = "", "TASKHOST_TRANSACTIONAL_ID_PREFIX"
            => "transactional.id = `<prefix>-<uuid of the process>-<n>`";
        /// How the group assigns partitions: by the classic protocol, or by that of Kafka 4 (KIP-848).
        group_protocol: GroupProtocol = "classic", "KAFKA_GROUP_PROTOCOL" => "group.protocol";
        /// Whether connections are encrypted.
        ssl_enabled: bool = "false", "KAFKA_SSL_ENABLED" => "security.protocol";
        /// File of the certificate authorities that may sign a broker's certificate. Without it the system's authorities
        /// are used.
        ssl_ca: Option<PathBuf> = "", "KAFKA_SSL_CA" => "ssl.ca.location";
        /// File of the client's certificate, for brokers that require one.
        ssl_cert: Option<PathBuf> = "", "KAFKA_SSL_CERT" => "ssl.certificate.location";
        /// File of the private key for the client's certificate.
        ssl_key: Option<PathBuf> = "", "KAFKA_SSL_KEY" => "ssl.key.location";
        /// The password of the private key, if the key is encrypted.
        ssl_key_password: Option<Secret> = "", "KAFKA_SSL_KEY_PASSWORD" => "ssl.key.password";
        /// Whether a broker's certificate must be valid. With false anybody can pose as a broker, and each start logs a
        /// warning.
        ssl_reject_unauthorized: bool = "true", "KAFKA_SSL_REJECT_UNAUTHORIZED"
            => "enable.ssl.certificate.verification";
        /// Whether to log in to the brokers.
        sasl_enabled: bool = "false", "KAFKA_SASL_ENABLED" => "security.protocol";
        /// The user to log in as.
        sasl_username: Option<String> = "", "KAFKA_SASL_USERNAME" => "sasl.username";
        /// The user's password.
        sasl_password: Option<Secret> = "", "KAFKA_SASL_PASSWORD" => "sasl.password";
        /// How the client proves its password. Upper or lower case.
        sasl_mechanism: SaslMechanism = "plain", "KAFKA_SASL_MECHANISM" => "sasl.mechanism";
        /// How long a connection may take to open, TLS and login included.
        connection_timeout: Duration = "3000" [1000..=2147483647], "KAFKA_CONNECTION_TIMEOUT"
            => "socket.connection.setup.timeout.ms";
        /// How long a broker may take to answer one request: at most the transaction timeout plus 100 ms.
        request_timeout: Duration = "30000" [10..=300000], "KAFKA_REQUEST_TIMEOUT"
            => "socket.timeout.ms, request.timeout.ms";
        /// How long a host may be silent before the group gives its partitions to others. Classic protocol only.
        session_timeout: Duration = "30000" [1..=3600000], "KAFKA_SESSION_TIMEOUT" => "session.timeout.ms";
        /// How often a host sends a heartbeat: at most a third of the session timeout. Classic protocol only.
        heartbeat_interval: Duration = "3000" [1..=3600000], "KAFKA_HEARTBEAT_INTERVAL" => "heartbeat.interval.ms";
        /// How long the poll thread may be stuck before the host leaves the group: at least the session timeout.
        max_poll_interval: Duration = "300000" [1..=86400000], "KAFKA_MAX_POLL_INTERVAL" => "max.poll.interval.ms";
        /// The first delay before a retry; later delays grow from it.
        retry_backoff: Duration = "100" [1..=300000], "KAFKA_RETRY_BACKOFF"
            => "retry.backoff.ms, and the base delay of the host's own retries";
        /// The number of retries: 3 means one try and three more.
        max_retry_attempts: u32 = "3" [0..=1000], "KAFKA_MAX_RETRY_ATTEMPTS" => "the number of the host's own retries";
        /// The delivery guarantee for readers of the outgoing messages.
        delivery: Delivery = "exactly-once", "TASKHOST_DELIVERY" => "publishing in transactions, or without";
        /// Whether the producer keeps order and drops its own duplicates. exactly-once needs it.
        idempotent: bool = "true", "KAFKA_IDEMPOTENT" => "enable.idempotence";
        /// How long a transaction may be open before the broker ends it.
        transaction_timeout: Duration = "30000" [1000..=2147483647], "KAFKA_TRANSACTION_TIMEOUT"
            => "transaction.timeout.ms; a third of it is message.timeout.ms";
        /// Who must have a message before it counts as sent: all replicas in sync, or only the leader. 1 needs at-least-once,
        /// without idempotence.
        acks: Acks = "all", "KAFKA_ACKS" => "acks";
        /// The most unanswered requests to one broker. Idempotence keeps order up to 5.
        max_in_flight: u32 = "5" [1..=1000000], "KAFKA_MAX_IN_FLIGHT" => "max.in.flight.requests.per.connection";
        /// How outgoing messages are compressed. A reader with kafkajs alone can read only none and gzip.
        compression: Compression = "lz4", "KAFKA_COMPRESSION" => "compression.type";
        /// How long an outgoing message waits for others to be sent with it. The host sends whole batches in any case.
        linger: Duration = "0" [0..=900000], "KAFKA_LINGER" => "linger.ms";
        /// The most bytes that one fetch returns from one partition.
        max_bytes_per_partition: u64 = "1048576" [1..=1000000000 bytes], "KAFKA_MAX_BYTES_PER_PARTITION"
            => "max.partition.fetch.bytes";
        /// The most bytes of fetched messages that wait in memory for the workers. Limits the memory of a host that falls
        /// behind.
        fetch_queue_bytes_max: u64 = "16777216" [1024..=2147482624 bytes], "KAFKA_FETCH_QUEUE_BYTES_MAX"
            => "queued.max.messages.kbytes";
        /// The most bytes of outgoing messages that wait in memory.
        send_queue_bytes_max: u64 = "67108864" [1024..=1099511627776 bytes], "KAFKA_SEND_QUEUE_BYTES_MAX"
            => "queue.buffering.max.kbytes";
        /// Where a partition without a committed offset starts.
        auto_offset_reset: AutoOffsetReset = "earliest", "KAFKA_AUTO_OFFSET_RESET"
            => "the first offset of a partition without a committed one";
        /// Where a partition starts that no taskhost of this group ever had. committed: at the offset that another consumer
        /// committed for the group. earliest: at the oldest message, whatever is committed. Later it has no effect.
        start: Start = "committed", "TASKHOST_START" => "the first offset of a partition with a committed one";
        /// Whether the host creates missing topics. With false the start fails and names each of them.
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
    /// How a consumer group assigns its partitions.
    pub enum GroupProtocol {
        /// The members agree among themselves; works with every broker.
        Classic = "classic",
        /// The broker assigns (KIP-848); Kafka 4.0 and later.
        Consumer = "consumer",
    }
}

choices! {
    /// How the client proves its password to a broker.
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
    /// The delivery guarantee for readers of the outgoing messages.
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
    /// How outgoing messages are compressed. A reader with kafkajs alone can read only none and gzip.
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
    /// Where a partition without a committed offset starts.
    pub enum AutoOffsetReset {
        /// At the oldest message there is.
        Earliest = "earliest",
        /// At the next message to come.
        Latest = "latest",
    }
}
