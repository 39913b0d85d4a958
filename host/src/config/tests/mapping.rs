//! The Kafka section in librdkafka's words.

use expect_test::{Expect, expect};

use super::good;
use crate::config::kafka::{client_properties, consumer_properties, producer_properties};

fn check(properties: &[(&'static str, String)], expected: &Expect) {
    let lines: Vec<String> = properties
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    expected.assert_eq(&lines.concat());
}

#[test]
fn a_consumer_by_default() {
    let expected = expect![[r#"
        bootstrap.servers=localhost:9092
        client.id=task-manager
        security.protocol=PLAINTEXT
        socket.connection.setup.timeout.ms=3000
        socket.timeout.ms=30000
        retry.backoff.ms=100
        retry.backoff.max.ms=1000
        log.connection.close=false
        reconnect.backoff.max.ms=1000
        group.id=task-manager-group
        group.protocol=classic
        max.poll.interval.ms=300000
        max.partition.fetch.bytes=1048576
        queued.max.messages.kbytes=16384
        enable.auto.commit=false
        enable.auto.offset.store=false
        auto.offset.reset=error
        enable.partition.eof=true
        isolation.level=read_committed
        allow.auto.create.topics=false
        topic.metadata.refresh.interval.ms=5000
        session.timeout.ms=30000
        heartbeat.interval.ms=3000
        partition.assignment.strategy=cooperative-sticky
    "#]];
    check(&consumer_properties(&good("", &[]).config.kafka), &expected);
}

#[test]
fn a_producer_by_default() {
    let kafka = good("", &[]).config.kafka;
    let own = producer_properties(&kafka).split_off(client_properties(&kafka).len());
    check(
        &own,
        &expect![[r#"
        enable.idempotence=true
        acks=all
        max.in.flight.requests.per.connection=5
        compression.type=lz4
        linger.ms=0
        request.timeout.ms=30000
        message.timeout.ms=10000
        queue.buffering.max.kbytes=65536
        transaction.timeout.ms=30000
        topic.metadata.propagation.max.ms=3000
    "#]],
    );
}

#[test]
fn every_client_with_tls_and_scram() {
    let env = [
        "KAFKA_BROKERS=a:1,b:2",
        "KAFKA_CLIENT_ID=c",
        "KAFKA_SSL_ENABLED=true",
        "KAFKA_SSL_CA=/dev/null",
        "KAFKA_SSL_CERT=/dev/null",
        "KAFKA_SSL_KEY=/dev/null",
        "KAFKA_SSL_KEY_PASSWORD=k",
        "KAFKA_SSL_REJECT_UNAUTHORIZED=false",
        "KAFKA_SASL_ENABLED=true",
        "KAFKA_SASL_USERNAME=u",
        "KAFKA_SASL_PASSWORD=p",
        "KAFKA_SASL_MECHANISM=Scram-SHA-512",
        "KAFKA_CONNECTION_TIMEOUT=1001",
        "KAFKA_REQUEST_TIMEOUT=1002",
        "KAFKA_RETRY_BACKOFF=2000",
    ];
    check(
        &client_properties(&good("", &env).config.kafka),
        &expect![[r#"
            bootstrap.servers=a:1,b:2
            client.id=c
            security.protocol=SASL_SSL
            socket.connection.setup.timeout.ms=1001
            socket.timeout.ms=1002
            retry.backoff.ms=2000
            retry.backoff.max.ms=2000
            ssl.ca.location=/dev/null
            ssl.certificate.location=/dev/null
            ssl.key.location=/dev/null
            ssl.key.password=k
            enable.ssl.certificate.verification=false
            sasl.mechanism=SCRAM-SHA-512
            sasl.username=u
            sasl.password=p
            log.connection.close=false
            reconnect.backoff.max.ms=1000
        "#]],
    );
}

#[test]
fn the_security_protocol_follows_the_two_switches() {
    let login = ["KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=p"];
    for (ssl, sasl, protocol) in [
        ("false", "false", "PLAINTEXT"),
        ("true", "false", "SSL"),
        ("false", "true", "SASL_PLAINTEXT"),
        ("true", "true", "SASL_SSL"),
    ] {
        let switches = [
            format!("KAFKA_SSL_ENABLED={ssl}"),
            format!("KAFKA_SASL_ENABLED={sasl}"),
        ];
        let env: Vec<&str> = switches.iter().map(String::as_str).chain(login).collect();
        let properties = client_properties(&good("", &env).config.kafka);
        assert!(
            properties.contains(&("security.protocol", protocol.to_owned())),
            "{properties:?}"
        );
    }
}

#[test]
fn under_the_newer_group_protocol_the_broker_decides_session_and_assignment() {
    let kafka = good("", &["KAFKA_GROUP_PROTOCOL=consumer"]).config.kafka;
    let names: Vec<&str> = consumer_properties(&kafka)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for name in [
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "partition.assignment.strategy",
    ] {
        assert!(!names.contains(&name), "{name}");
    }
    assert!(names.contains(&"group.protocol"));
}

#[test]
fn at_least_once_has_no_transactions() {
    let env = [
        "TASKHOST_DELIVERY=at-least-once",
        "KAFKA_ACKS=1",
        "KAFKA_IDEMPOTENT=false",
        "KAFKA_COMPRESSION=zstd",
    ];
    let kafka = good("", &env).config.kafka;
    let own = producer_properties(&kafka).split_off(client_properties(&kafka).len());
    check(
        &own,
        &expect![[r#"
        enable.idempotence=false
        acks=1
        max.in.flight.requests.per.connection=5
        compression.type=zstd
        linger.ms=0
        request.timeout.ms=30000
        message.timeout.ms=10000
        queue.buffering.max.kbytes=65536
        topic.metadata.propagation.max.ms=3000
    "#]],
    );
}

#[test]
fn no_property_is_told_twice() {
    let kafka = good("", &[]).config.kafka;
    for properties in [consumer_properties(&kafka), producer_properties(&kafka)] {
        let mut names: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
