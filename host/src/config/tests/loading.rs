//! What is read from where.

use std::collections::BTreeSet;
use std::path::Path;

use expect_test::{expect, expect_file};

use super::good;
use crate::config::fixed::FIXED;
use crate::config::{Config, Offered, Origin, Setting, docs, settings};

#[test]
fn without_file_and_environment_the_documented_defaults_are_in_force() {
    let loaded = Config::load(None, std::iter::empty()).expect("defaults");
    assert_eq!(loaded.config.kafka.brokers, ["localhost:9092"]);
    assert_eq!(loaded.config.kafka.client_id, "task-manager");
    assert_eq!(
        loaded.config.kafka.transactional_prefix(),
        "task-manager-group"
    );
    assert_eq!(loaded.config.topics.real("task-status"), "task-status");
    assert_eq!(
        loaded.config.dead_letter_topic("task-status"),
        "task-status.dlq"
    );
    assert_eq!(loaded.config.http.addr.to_string(), "127.0.0.1:3000");
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.origins.iter().count(), settings().count());
}

#[test]
fn the_environment_wins_over_the_file_and_each_value_knows_its_origin() {
    let toml = "# a comment\n[kafka]\nbrokers = [\"a:1\", \"b:2\"]\nclient_id = \"from-file\"\n";
    let loaded = good(toml, &["KAFKA_CLIENT_ID=from-env", "KAFKA_GROUP_ID="]);
    assert_eq!(loaded.config.kafka.brokers, ["a:1", "b:2"]);
    assert_eq!(loaded.config.kafka.client_id, "from-env");
    let origins: Vec<String> = ["kafka.brokers", "kafka.client_id", "kafka.group_id"]
        .iter()
        .filter_map(|key| loaded.origins.of(key))
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        origins,
        ["taskhost.toml:3", "env KAFKA_CLIENT_ID", "default"]
    );
}

#[test]
fn secrets_are_masked_wherever_the_configuration_is_shown() {
    let env = [
        "DATABASE_URL=postgres://u:hunter2@db/x",
        "KAFKA_SASL_ENABLED=yes",
        "KAFKA_SASL_USERNAME=u",
        "KAFKA_SASL_PASSWORD=hunter2",
        "KAFKA_SASL_MECHANISM=SCRAM-SHA-256",
    ];
    let loaded = good("", &env);
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let secret = loaded
        .config
        .kafka
        .sasl_password
        .as_ref()
        .map(|secret| secret.expose());
    assert_eq!(secret, Some("hunter2"));
}

#[test]
fn unknown_variables_with_our_prefixes_are_warnings() {
    let loaded = good(
        "",
        &[
            "KAFKA_PORT=tcp://10.0.0.1:9092",
            "KAFKA_BROKER=a:1",
            "HOME=/root",
            "TASKHOST_URL=x",
        ],
    );
    expect![[r#"
        [
            "the environment variable KAFKA_BROKER is unknown to taskhost and has no effect, did you mean KAFKA_BROKERS?",
            "the environment variable KAFKA_PORT is unknown to taskhost and has no effect",
        ]
    "#]]
    .assert_debug_eq(&loaded.warnings);
}

#[test]
fn settings_without_effect_and_unsafe_ones_are_warnings() {
    let off = good(
        "[kafka]\nsasl_username = \"u\"",
        &[
            "KAFKA_SSL_CA=/nowhere",
            "KAFKA_GROUP_PROTOCOL=consumer",
            "KAFKA_SESSION_TIMEOUT=9000",
        ],
    );
    let unsafe_tls = good(
        "",
        &["KAFKA_SSL_ENABLED=1", "KAFKA_SSL_REJECT_UNAUTHORIZED=no"],
    );
    expect![[r#"
        [
            "kafka.ssl_ca (env KAFKA_SSL_CA) has no effect: kafka.ssl_enabled is false",
            "kafka.sasl_username (taskhost.toml:2) has no effect: kafka.sasl_enabled is false",
            "kafka.session_timeout (env KAFKA_SESSION_TIMEOUT) has no effect: kafka.group_protocol is consumer, where the broker decides it",
            "kafka.ssl_reject_unauthorized is false: brokers' certificates are not checked, so anybody can pose as a broker",
        ]
    "#]]
    .assert_debug_eq(&[off.warnings, unsafe_tls.warnings].concat());
}

#[test]
fn a_setting_that_was_taken_away_is_a_warning_that_names_the_value_in_force() {
    let toml = "[breaker]\nratio = 90\nwindow = 1000\n[plugins]\nlog_lines_max = 1\n";
    let env = [
        "TASKHOST_BATCH_FRAMES_UNPUBLISHED_MAX=1",
        "TASKHOST_BATCH_TRANSACTION_BYTES_MAX=1024",
        "TASKHOST_PLUGINS_ANSWER_BYTES_MAX=1024",
        "TASKHOST_PLUGINS_LOG_LINES_MAX=",
        "TASKHOST_DATABASE_ACQUIRE_TIMEOUT=1",
    ];
    expect![[r#"
        [
            "breaker.ratio (taskhost.toml:2) can't be set any more and has no effect: it is always 50; remove it",
            "breaker.window (taskhost.toml:3) can't be set any more and has no effect: it is always 60000; remove it",
            "plugins.log_lines_max (taskhost.toml:5) can't be set any more and has no effect: it is always 100; remove it",
            "batch.frames_unpublished_max (env TASKHOST_BATCH_FRAMES_UNPUBLISHED_MAX) can't be set any more and has no effect: it is always 64; remove it",
            "batch.transaction_bytes_max (env TASKHOST_BATCH_TRANSACTION_BYTES_MAX) can't be set any more and has no effect: it is always 16777216; remove it",
            "plugins.answer_bytes_max (env TASKHOST_PLUGINS_ANSWER_BYTES_MAX) can't be set any more and has no effect: it is always 16777216; remove it",
            "database.acquire_timeout (env TASKHOST_DATABASE_ACQUIRE_TIMEOUT) can't be set any more and has no effect: it is always 5000; remove it",
        ]
    "#]].assert_debug_eq(&good(toml, &env).warnings);
}

#[test]
fn what_can_not_be_set_any_more_is_no_setting() {
    for fixed in &FIXED {
        let is_set = |setting: &Setting| (setting.key, setting.env) == (fixed.key, fixed.env);
        assert!(!settings().any(is_set), "{}", fixed.key);
        let section = fixed.key.split('.').next().expect("a section");
        assert!(settings().any(|setting| setting.section() == section));
    }
}

#[test]
fn a_default_that_depends_on_another_setting_is_shown_as_it_comes_out() {
    let loaded = good("", &["KAFKA_GROUP_ID=g"]);
    let shown = loaded
        .origins
        .iter()
        .find(|row| row.setting.key == "kafka.transactional_id_prefix");
    assert_eq!(shown.map(|row| row.value.as_str()), Some("g"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = Config::load(
        Some(Path::new("/nowhere/taskhost.toml")),
        std::iter::empty(),
    );
    let text = errors.map(|_| ()).expect_err("no file").to_string();
    assert!(
        text.contains("/nowhere/taskhost.toml can't be read"),
        "{text}"
    );
}

#[test]
fn names_and_keys_are_unique() {
    let envs: BTreeSet<&str> = settings().map(|setting| setting.env).collect();
    let keys: BTreeSet<&str> = settings().map(|setting| setting.key).collect();
    assert_eq!(
        (envs.len(), keys.len()),
        (settings().count(), settings().count())
    );
}

#[test]
fn the_configuration_page_is_in_step_with_the_code() {
    expect_file![concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/configuration.md"
    )]
    .assert_eq(&docs::page());
}

#[test]
fn a_running_dev_gives_only_what_nobody_else_says() {
    let offered = Offered {
        path: "dev.env".into(),
        values: vec![
            ("KAFKA_BROKERS", "dev:1".into()),
            ("DATABASE_URL", "postgres://dev/x".into()),
            ("HTTP_ADDR", String::new()),
        ],
    };
    let env = [("DATABASE_URL".to_owned(), "postgres://mine/x".to_owned())];
    let load = |toml: &str| {
        let file = Some((Path::new("taskhost.toml"), toml));
        Config::parse_over(Some(&offered), file, env.clone().into_iter()).expect("good")
    };
    let loaded = load("");
    assert_eq!(loaded.config.kafka.brokers, ["dev:1"]);
    assert_eq!(
        loaded.origins.of("kafka.brokers"),
        Some(&Origin::Dev("dev.env".into()))
    );
    let url = loaded.config.database_url().expect("a URL");
    assert_eq!(url.expose(), "postgres://mine/x");
    assert!(!loaded.origins.is_set("http.addr"));

    let loaded = load("[kafka]\nbrokers = \"file:1\"\n");
    assert_eq!(loaded.config.kafka.brokers, ["file:1"]);
}
