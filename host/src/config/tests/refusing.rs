//! What stops the start, and in which words.

use expect_test::expect;

use super::{bad, good};

#[test]
fn everything_wrong_is_named_at_once() {
    let toml = "\
brokers = \"a:1\"
[kafka]
broker = \"a:1\"
request_timeout = \"30s\"
[kafak]
x = 1
[http]
addr = \"localhost\"
[batch]
messages_max = { a = 1 }
";
    let env = [
        "KAFKA_ACKS=1",
        "KAFKA_HEARTBEAT_INTERVAL=20000",
        "DATABASE_URL=hunter2",
        "KAFKA_MAX_IN_FLIGHT=0",
    ];
    expect![[r#"
        the configuration has 10 problems:
          - batch.messages_max is a table (taskhost.toml:10): write a plain value or a list of them
          - unknown key brokers (taskhost.toml:1): write it under [kafka]
          - unknown key kafak (taskhost.toml:5): did you mean [kafka]?
          - unknown key kafka.broker (taskhost.toml:3): did you mean brokers?
          - kafka.request_timeout is "30s", expected a whole number of milliseconds, without a unit (taskhost.toml:4): correct KAFKA_REQUEST_TIMEOUT or kafka.request_timeout
          - kafka.max_in_flight is "0", expected 1 to 1000000 (env KAFKA_MAX_IN_FLIGHT): correct KAFKA_MAX_IN_FLIGHT or kafka.max_in_flight
          - database.url is "***", relative URL without a base; expected postgres://user:password@host:5432/database (env DATABASE_URL): correct DATABASE_URL or database.url
          - http.addr is "localhost", expected an IP address and a port, such as 0.0.0.0:3000 (taskhost.toml:8): correct HTTP_ADDR or http.addr
          - kafka.heartbeat_interval is 20000 ms, more than a third of kafka.session_timeout, 30000 ms (env KAFKA_HEARTBEAT_INTERVAL): set KAFKA_HEARTBEAT_INTERVAL to at most 10000
          - kafka.acks is 1 while kafka.delivery is exactly-once (env KAFKA_ACKS): set KAFKA_ACKS=all, or TASKHOST_DELIVERY=at-least-once and KAFKA_IDEMPOTENT=false"#]]
    .assert_eq(&bad(toml, &env));
}

#[test]
fn what_is_no_toml_is_named_with_its_line_beside_what_is_wrong_elsewhere() {
    expect![[r#"
        the configuration has 2 problems:
          - it is not valid TOML: string values must be quoted, expected literal string (taskhost.toml:2): correct the file
          - kafka.linger is "soon", expected a whole number of milliseconds, without a unit (env KAFKA_LINGER): correct KAFKA_LINGER or kafka.linger"#]]
    .assert_eq(&bad("[kafka]\nbrokers = a:1\n", &["KAFKA_LINGER=soon"]));
}

/// A contradiction and a part of the complaint about it.
#[test]
fn contradictions_are_refused() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["KAFKA_SASL_ENABLED=true", "KAFKA_SASL_PASSWORD=p"],
            "without a user name",
        ),
        (
            &["KAFKA_SASL_ENABLED=true", "KAFKA_SASL_USERNAME=u"],
            "without a password",
        ),
        (
            &["KAFKA_SSL_ENABLED=true", "KAFKA_SSL_CERT=/dev/null"],
            "kafka.ssl_cert is set without kafka.ssl_key",
        ),
        (
            &["KAFKA_SSL_ENABLED=true", "KAFKA_SSL_KEY=/dev/null"],
            "kafka.ssl_key is set without kafka.ssl_cert",
        ),
        (
            &["KAFKA_SSL_ENABLED=true", "KAFKA_SSL_CA=/nowhere/ca.pem"],
            "/nowhere/ca.pem, which can't be read",
        ),
        (
            &["KAFKA_REQUEST_TIMEOUT=30101"],
            "kafka.request_timeout is 30101 ms",
        ),
        (
            &["KAFKA_IDEMPOTENT=false"],
            "kafka.idempotent is false while",
        ),
        (&["KAFKA_MAX_IN_FLIGHT=6"], "keeps order up to 5"),
        (&["KAFKA_LINGER=10000"], "kafka.linger is 10000 ms"),
        (
            &["KAFKA_MAX_POLL_INTERVAL=29999"],
            "less than kafka.session_timeout",
        ),
        (
            &["TASKHOST_DELIVERY=at-least-once", "KAFKA_ACKS=1"],
            "while kafka.idempotent is true",
        ),
        (&["KAFKA_BROKERS=http://a"], "which is not a broker address"),
        (
            &["KAFKA_FETCH_QUEUE_BYTES_MAX=1024"],
            "less than kafka.max_bytes_per_partition",
        ),
        (&["TASK_STATUS_TOPIC=a/b"], "can't contain '/'"),
        (&["TASKHOST_DLQ_TOPIC={topic}"], "it is the topic itself"),
        (&["TASKHOST_DLQ_TOPIC=dead"], "it doesn't contain {topic}"),
        (
            &["TASKHOST_DATABASE_LOCK_TIMEOUT=10001"],
            "so it never takes effect",
        ),
        (
            &["TASKHOST_DEFERRAL_DELAY_MIN=300001"],
            "more than deferral.delay_max",
        ),
        (
            &["TASKHOST_PLUGINS_CACHE_DIR=plugins"],
            "the same directory",
        ),
        (&["TASKHOST_LOG=info,taskhost=loud"], "log.level is"),
    ];
    cases.iter().for_each(|(env, part)| has_one(env, part));
}

/// One problem, with these words.
fn has_one(env: &[&str], part: &str) {
    let text = bad("", env);
    assert!(text.contains(part), "{env:?}: {text}");
    assert!(
        text.contains("a problem:"),
        "{env:?} has one problem: {text}"
    );
}

#[test]
fn what_only_looks_contradictory_is_accepted() {
    let cases: &[&[&str]] = &[
        &[
            "TASKHOST_DELIVERY=at-least-once",
            "KAFKA_ACKS=1",
            "KAFKA_IDEMPOTENT=false",
        ],
        &[
            "TASKHOST_DELIVERY=at-least-once",
            "KAFKA_REQUEST_TIMEOUT=60000",
        ],
        &["KAFKA_REQUEST_TIMEOUT=30100"],
        &["KAFKA_HEARTBEAT_INTERVAL=10000"],
        &[
            "KAFKA_GROUP_PROTOCOL=consumer",
            "KAFKA_HEARTBEAT_INTERVAL=20000",
        ],
        &["KAFKA_MAX_IN_FLIGHT=1", "KAFKA_ACKS=-1"],
        &["KAFKA_SSL_CERT=/nowhere"],
    ];
    for env in cases {
        good("", env);
    }
}
