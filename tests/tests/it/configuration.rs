//! What is wrong is said before anything is done, all at once.

use std::collections::BTreeSet;

use serde_json::json;
use taskhost_tests::{Message, World, soon};

use crate::documented::update;

#[test]
fn everything_that_is_wrong_with_the_configuration_is_named_at_once() {
    let world = World::bare();
    let finished = world
        .host()
        .config("[kafka]\nbrokerz = \"a:1\"\nheartbeat_interval = \"often\"\n")
        .env("KAFKA_ACKS", "2")
        .env("KAFKA_SESSION_TIMEOUT", "soon")
        .env("HTTP_ADDR", "here")
        .env("TASKHOST_DEFERRAL_ATTEMPTS_MAX", "0")
        .env("KAFKA_SASL_MECHANISM", "kerberos")
        .without("KAFKA_HEARTBEAT_INTERVAL")
        .run(&["run"]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    for name in [
        "kafka.brokerz",
        "kafka.heartbeat_interval",
        "KAFKA_ACKS",
        "KAFKA_SESSION_TIMEOUT",
        "HTTP_ADDR",
        "TASKHOST_DEFERRAL_ATTEMPTS_MAX",
        "KAFKA_SASL_MECHANISM",
    ] {
        assert!(
            finished.stderr.contains(name),
            "{name} is not named:\n{}",
            finished.stderr
        );
    }

    let finished = world.host().without("DATABASE_URL").run(&["run"]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("DATABASE_URL"),
        "{}",
        finished.stderr
    );
}

#[test]
fn topics_that_are_missing_are_all_named_where_the_host_may_not_make_them() {
    let world = World::bare();
    world.create_topic("task-events", 1);
    let finished = world
        .host()
        .env("KAFKA_AUTO_CREATE_TOPICS", "false")
        .run(&["run"]);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let said = finished.stderr.lines().last().unwrap_or_default();
    let (_, list) = said
        .split_once(": these topics are missing: ")
        .unwrap_or_else(|| panic!("{said}"));
    let (list, _) = list.split_once(';').unwrap_or_else(|| panic!("{said}"));
    let named: BTreeSet<&str> = list.split(", ").collect();
    let missing = [
        "task-status",
        "task-status.dlq",
        "requests-web-crawl",
        "requests-web-crawl.dlq",
        "taskhost-events",
    ];
    let missing = missing.map(|topic| world.topic(topic));
    assert_eq!(named, missing.iter().map(String::as_str).collect());
}

#[test]
fn a_missing_plugin_is_named_with_its_file() {
    let world = World::bare();
    world.install("task_status", "task_status");
    let finished = world.host().run(&["run"]);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let file = world.plugin_dir().join("web_crawl.wasm");
    assert!(
        finished.stderr.contains(&file.display().to_string()),
        "{}",
        finished.stderr
    );
    let there = world.plugin_dir().join("task_status.wasm");
    assert!(
        !finished.stderr.contains(&format!("no {}", there.display())),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_schema_of_another_name_holds_everything_also_behind_a_pooler() {
    let world = World::new();
    let builder = || {
        let host = world.host();
        host.env("TASKHOST_DATABASE_SCHEMA", "order")
    };
    let first = builder().start();
    world.send(update("t-1", "new"));
    soon("the task is there", || {
        let rows = world.ask("SELECT status FROM \"order\".tasks WHERE id = 't-1'");
        (rows == [Some("new".to_owned())]).then_some(())
    });
    first.stop();
    let second = builder()
        .env("TASKHOST_DATABASE_PREPARED_STATEMENTS", "false")
        .start();
    world.send(update("t-1", "started"));
    world.send(Message::to("task-status").json(&json!({ "taskId": "t-1", "status": "nonsense" })));
    soon(
        "the task has started, and what can't be decided is a dead letter",
        || {
            let sql = "SELECT status || ' ' || (SELECT count(*) FROM \"order\".dead_letters) FROM \"order\".tasks";
            (world.ask(sql) == [Some("started 1".to_owned())]).then_some(())
        },
    );
    for arguments in [["task", "show", "t-1"], ["dlq", "list", "--all"]] {
        let finished = builder().run(&arguments);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
    }
    // The first makes the partitions of the next months, if the host hasn't yet.
    let made = builder().run(&["migrate"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let finished = builder().run(&["migrate"]);
    assert!(
        finished.stdout.contains("nothing to do"),
        "{}",
        finished.stdout
    );
    let elsewhere = "SELECT count(*)::text FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'order')";
    assert_eq!(world.ask(elsewhere), [Some("0".to_owned())]);
    second.stop();

    let refused = builder()
        .env("TASKHOST_DATABASE_SCHEMA", "Order")
        .run(&["run"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("plain identifier"),
        "{}",
        refused.stderr
    );
}
