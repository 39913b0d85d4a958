//! The least set of rights, as the documentation grants it, and what is said and done when one of them is missing.

use serde_json::{Value, json};
use taskhost_tests::{Finished, Host, HostBuilder, Message, Page, World, soon};

use super::{PASSWORD, Secured, USER};

/// A world with a user who has the documented rights and no other.
struct Guarded {
    /// Goes before the services that it is on.
    world: World,
    secured: Secured,
}

impl Guarded {
    fn start() -> Self {
        let secured = Secured::start();
        let world = secured.world();
        for topic in [
            "task-events",
            "taskhost-events",
            "requests-web-crawl.dlq",
            "task-status.dlq",
        ] {
            world.create_topic(topic, 2);
        }
        let page = Page::read("kafka-security.md");
        let guarded = Self { world, secured };
        let _ = guarded
            .world
            .shell(page.block("## The least set of rights", "sh"))
            .ok();
        guarded
    }

    fn host(&self) -> HostBuilder {
        let login = [
            ("KAFKA_SASL_ENABLED", "true"),
            ("KAFKA_SASL_USERNAME", USER),
            ("KAFKA_SASL_PASSWORD", PASSWORD),
            ("KAFKA_AUTO_CREATE_TOPICS", "false"),
        ];
        self.secured.host(&self.world, "SASL", &login)
    }

    fn change(&self, change: &str, right: &str) {
        let force = if change == "--remove" { "--force" } else { "" };
        let _ = self
            .world
            .shell(&format!(
                "kafka-acls.sh --bootstrap-server kafka:9092 {change} {force} --allow-principal User:{USER} {right}"
            ))
            .ok();
    }

    fn revoke(&self, right: &str) {
        self.change("--remove", right);
    }

    fn grant(&self, right: &str) {
        self.change("--add", right);
    }

    fn test_kafka(&self) -> Finished {
        self.host().run(&["test-kafka", "--json"])
    }
}

/// An update through a partition of the test's choice.
fn update(id: &str, partition: i32) -> Message {
    Message::to("task-status")
        .partition(partition)
        .key(id)
        .json(&json!({"taskId": id, "status": "new"}))
}

fn missing_rights(said: &Finished) -> Vec<Value> {
    let lines = said.stdout.lines();
    lines
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"))
        .filter(|line| line["kind"] == "missing-right")
        .collect()
}

/// What `/readyz` says of one thing that is missing.
fn missing(host: &Host, what: &str) -> Option<String> {
    assert_eq!(host.exit_status(), None, "it ended: {}", host.log());
    let missing = host.get("/readyz").json()["missing"].clone();
    let found = missing
        .as_array()?
        .iter()
        .find(|missing| missing["what"] == what)?;
    found["reason"].as_str().map(str::to_owned)
}

/// Waits until `/readyz` names the right, and the log does.
fn waits_for(host: &Host, what: &str, right: &str) {
    let reason = soon(&format!("{what} is missing"), || missing(host, what));
    assert!(reason.contains(right), "{right}: {reason}");
    assert!(reason.contains("kafka-security.md"), "{reason}");
    host.wait_log(right);
    let health = host.get("/api/health/kafka");
    assert_eq!(health.status, 503, "{}", health.body);
    assert!(health.body.contains(right), "{right}: {}", health.body);
}

#[test]
fn a_host_works_with_the_documented_rights_and_with_none_less() {
    let guarded = Guarded::start();
    let world = &guarded.world;
    let said = guarded.test_kafka();
    assert_eq!(said.code, Some(0), "{said:?}");

    let host = guarded.host().start();
    world.send(update("t-1", 0));
    world.send(Message::to("task-status").partition(1).value("garbage"));
    world.send(Message::to("requests-web-crawl").json(&json!({
        "userEmail": "user@example.com", "userQuery": "Find it", "originalUrl": "https://example.com",
        "requestedAt": "2024-01-01T00:00:00.000Z"
    })));
    world.wait_caught_up();
    assert_eq!(world.tasks().len(), 2);
    assert_eq!(world.read("task-status.dlq").len(), 1);
    soon("the life cycle is told", || {
        (!world.read("taskhost-events").is_empty()).then_some(())
    });
    host.kill();
    // A successor takes the dead host's transactional id.
    let host = guarded.host().start();
    world.send(update("t-2", 0));
    world.wait_caught_up();
    assert_eq!(world.task("t-2").status, "new");
    host.stop();

    // Each of them is needed, and missed by name.
    let (topic, group) = (|name: &str| world.topic(name), world.group());
    let rights = [
        ("Read", "topic", topic("requests-web-crawl")),
        ("Read", "topic", topic("task-status")),
        ("Read", "group", group.clone()),
        ("Write", "topic", topic("task-status")),
        ("Write", "topic", topic("task-events")),
        ("Write", "topic", topic("requests-web-crawl.dlq")),
        ("Write", "topic", topic("task-status.dlq")),
        ("Write", "topic", topic("taskhost-events")),
        ("Write", "transactional-id", group),
    ];
    for (operation, resource, name) in rights {
        let prefixed = match resource {
            "transactional-id" => "--resource-pattern-type prefixed",
            _ => "",
        };
        let right = format!("--operation {operation} --{resource} {name} {prefixed}");
        guarded.revoke(&right);
        let said = guarded.test_kafka();
        assert_eq!(said.code, Some(1), "{right}: {said:?}");
        let expected = json!({ "kind": "missing-right", "operation": operation, "resource": resource, "name": name });
        assert_eq!(missing_rights(&said), [expected], "{right}");
        assert!(
            said.stderr.contains(right.trim()),
            "{right}: {}",
            said.stderr
        );
        guarded.grant(&right);
    }
    let said = guarded.test_kafka();
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_host_that_lacks_a_right_names_it_and_goes_on_once_it_is_granted() {
    let guarded = Guarded::start();
    let world = &guarded.world;
    let (topic, group) = (world.topic("task-status"), world.group());
    let cases = [
        (
            format!("--operation Read --topic {topic}"),
            "rights",
            format!("no right to Read topic {topic}"),
        ),
        (
            format!("--operation Read --group {group}"),
            "rights",
            format!("no right to Read group {group}"),
        ),
        (
            format!(
                "--operation Write --transactional-id {group} --resource-pattern-type prefixed"
            ),
            "publisher",
            format!("no right to Write transactional-id {group}"),
        ),
    ];
    for (number, (right, what, words)) in cases.iter().enumerate() {
        guarded.revoke(right);
        let host = guarded.host().spawn();
        waits_for(&host, what, words);
        guarded.grant(right);
        host.wait_ready();
        let id = format!("t-{number}");
        world.send(update(&id, 0));
        world.wait_caught_up();
        assert_eq!(world.task(&id).status, "new");
        host.stop();
    }

    // The same for what is taken away while a host runs.
    let host = guarded.host().start();
    for (right, _, words) in &cases[..2] {
        guarded.revoke(right);
        waits_for(&host, "rights", words);
        world.send(update("late", 1));
        guarded.grant(right);
        host.wait_ready();
        world.wait_caught_up();
    }
    assert_eq!(world.task("late").status, "new");
    host.stop();
}

#[test]
fn an_output_topic_without_rights_halts_the_partition_that_needs_it_and_no_other() {
    let guarded = Guarded::start();
    let world = &guarded.world;
    let letters = world.topic("task-status.dlq");
    guarded.revoke(&format!("--operation Write --topic {letters}"));
    let host = guarded.host().start();
    host.wait_log(&format!("no right to Write topic {letters}"));
    world.send(Message::to("task-status").partition(0).value("garbage"));
    let reason = soon("the partition is halted", || {
        let health = host.get("/api/health/detailed").json();
        let partitions = health["details"]["partitions"]["partitions"].clone();
        let halted = partitions
            .as_array()?
            .iter()
            .find(|partition| partition["state"] == "halted")?;
        assert_eq!(halted["topic"], world.topic("task-status"), "{halted}");
        assert_eq!(halted["partition"], 0, "{halted}");
        halted["reason"].as_str().map(str::to_owned)
    });
    assert!(reason.starts_with("unpublishable-message"), "{reason}");
    assert!(
        reason.contains(&format!("no right to Write topic {letters}")),
        "{reason}"
    );
    // The other partition goes on, with all that it publishes, and the host stays ready.
    world.send(update("other", 1));
    soon("the other partition's event is published", || {
        let events = world.read("task-events");
        events
            .iter()
            .any(|event| event.key_text() == "other")
            .then_some(())
    });
    assert_eq!(host.get("/readyz").status, 200);
    host.stop();

    // Granted, and assigned again: nothing is lost.
    guarded.grant(&format!("--operation Write --topic {letters}"));
    let host = guarded.host().start();
    world.wait_caught_up();
    assert_eq!(world.read("task-status.dlq").len(), 1);
    host.stop();
}
