//! librdkafka takes what the configuration makes of itself; nothing is connected.

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::BaseProducer;
use taskhost::config::kafka::{Properties, consumer_properties, producer_properties};
use taskhost::config::{Config, Loaded};

fn load(env: &[(&str, &str)]) -> Loaded {
    // A port that nobody listens on, so that nothing is reached by accident.
    let base = [("KAFKA_BROKERS", "127.0.0.1:1")];
    let env = base
        .iter()
        .chain(env)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(None, env).expect("a good configuration")
}

fn client(properties: Properties) -> ClientConfig {
    properties
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[test]
fn librdkafka_accepts_every_kind_of_client_that_can_be_configured() {
    let cases: &[&[(&str, &str)]] = &[
        &[],
        &[("KAFKA_GROUP_PROTOCOL", "consumer")],
        &[
            ("KAFKA_SASL_ENABLED", "true"),
            ("KAFKA_SASL_USERNAME", "u"),
            ("KAFKA_SASL_PASSWORD", "p"),
            ("KAFKA_SASL_MECHANISM", "scram-sha-512"),
        ],
        &[
            ("KAFKA_SSL_ENABLED", "true"),
            ("KAFKA_SSL_REJECT_UNAUTHORIZED", "false"),
        ],
        &[
            ("KAFKA_COMPRESSION", "zstd"),
            ("KAFKA_LINGER", "9999"),
            ("KAFKA_MAX_IN_FLIGHT", "1"),
        ],
        &[
            ("KAFKA_COMPRESSION", "gzip"),
            ("KAFKA_RETRY_BACKOFF", "300000"),
        ],
        &[
            ("KAFKA_COMPRESSION", "snappy"),
            ("KAFKA_REQUEST_TIMEOUT", "30100"),
        ],
        &[("KAFKA_COMPRESSION", "none")],
        &[
            ("KAFKA_TRANSACTION_TIMEOUT", "1000"),
            ("KAFKA_REQUEST_TIMEOUT", "1100"),
        ],
        &[
            ("KAFKA_MAX_POLL_INTERVAL", "30000"),
            ("KAFKA_HEARTBEAT_INTERVAL", "10000"),
        ],
        &[
            ("KAFKA_FETCH_QUEUE_BYTES_MAX", "2147482624"),
            ("KAFKA_MAX_BYTES_PER_PARTITION", "1000000000"),
        ],
        &[("KAFKA_SEND_QUEUE_BYTES_MAX", "1099511627776")],
    ];
    for case in cases {
        let kafka = load(case).config.kafka;
        let consumer: Result<BaseConsumer, _> = client(consumer_properties(&kafka)).create();
        assert!(consumer.is_ok(), "{case:?}: {:?}", consumer.err());
        let mut producer = client(producer_properties(&kafka));
        producer.set(
            "transactional.id",
            format!("{}-test", kafka.transactional_prefix()),
        );
        let producer: Result<BaseProducer, _> = producer.create();
        assert!(producer.is_ok(), "{case:?}: {:?}", producer.err());
    }
}

#[test]
fn librdkafka_accepts_at_least_once_without_a_transactional_id() {
    let env = [
        ("TASKHOST_DELIVERY", "at-least-once"),
        ("KAFKA_ACKS", "1"),
        ("KAFKA_IDEMPOTENT", "false"),
    ];
    let producer: Result<BaseProducer, _> =
        client(producer_properties(&load(&env).config.kafka)).create();
    assert!(producer.is_ok(), "{:?}", producer.err());
}
