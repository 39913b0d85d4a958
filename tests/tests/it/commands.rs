//! The commands, beside a running host.

use serde_json::{Value, json};
use taskhost_tests::World;

/// What a command says for scripts: one JSON object a line.
fn lines(world: &World, arguments: &[&str]) -> Vec<Value> {
    let arguments = [arguments, &["--json"]].concat();
    let said = world.host().run(&arguments).ok();
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn the_commands_do_what_the_documented_scripts_do() {
    let world = World::new();
    let host = world.host().start();

    let found = lines(&world, &["test-kafka"]);
    for topic in ["task-status", "requests-web-crawl"] {
        let name = world.topic(topic);
        let line = found.iter().find(|line| line["name"] == name.as_str());
        assert_eq!(
            line.map(|line| &line["role"]),
            Some(&json!("read and written")),
            "{topic}"
        );
    }
    assert!(
        found.iter().any(|line| line["kind"] == "broker"),
        "{found:?}"
    );
    assert!(
        !found.iter().any(|line| line["kind"] == "missing-topic"),
        "{found:?}"
    );

    let sent = lines(
        &world,
        &["publish-new-task", "--count", "3", "--query", "Find it"],
    );
    let bare = lines(&world, &["publish-new-task", "--bare"]);
    assert_eq!((sent.len(), bare.len()), (3, 1));
    world.wait_caught_up();
    for line in &sent {
        let task = world.task(line["requestId"].as_str().expect("an id"));
        assert_eq!(
            (task.status.as_str(), &task.data["userQuery"]),
            ("new", &json!("Find it"))
        );
    }

    for (arguments, last) in [
        (["test-task-updates"].as_slice(), "completed"),
        (&["test-task-updates", "--error"], "error"),
    ] {
        let steps = lines(&world, arguments);
        let told: Vec<_> = steps
            .iter()
            .map(|step| (&step["status"], &step["version"]))
            .collect();
        let expected = [json!("new"), json!("started"), json!(last)];
        assert_eq!(
            told,
            [
                (&expected[0], &json!(1)),
                (&expected[1], &json!(2)),
                (&expected[2], &json!(3))
            ]
        );
        let id = steps[0]["taskId"].as_str().expect("an id");
        assert_eq!(world.task(id).status, last);
        let shown = lines(&world, &["task", "show", id]);
        assert_eq!((shown.len(), &shown[0]["status"]), (1, &json!(last)));
        let kinds: Vec<_> = world
            .events(id)
            .into_iter()
            .map(|event| Value::from(event.kind))
            .collect();
        let events = shown[0]["events"].as_array().expect("its history");
        assert_eq!(
            events
                .iter()
                .map(|event| event["kind"].clone())
                .collect::<Vec<_>>(),
            kinds
        );
    }

    let listed = lines(&world, &["task", "list"]);
    assert_eq!(listed.len(), 6);
    assert_eq!(
        lines(&world, &["task", "list", "--status", "error"]).len(),
        1
    );
    assert_eq!(lines(&world, &["task", "list", "--limit", "2"]).len(), 2);

    let url = format!("http://{}", host.address());
    let plugins = lines(&world, &["plugin", "list", "--url", &url]);
    let names: Vec<_> = plugins.iter().map(|line| &line["active"]["name"]).collect();
    assert_eq!(names, ["web-crawl", "task-status"]);

    world.wait_caught_up();
    crate::laws::check(&world);
    host.stop();
}

#[test]
fn a_command_that_finds_nobody_says_so_and_fails() {
    let world = World::new();
    world.host().start().stop();
    let late = world.host().run(&["test-task-updates", "--timeout", "1"]);
    assert_eq!(late.code, Some(1), "{late:?}");
    assert!(late.stderr.contains("new"), "{late:?}");

    let nobody = world
        .host()
        .env("KAFKA_BROKERS", "127.0.0.1:1")
        .env("KAFKA_CONNECTION_TIMEOUT", "1000");
    let nobody = nobody.run(&["test-kafka"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("127.0.0.1:1"), "{nobody:?}");

    let missing = world.host().run(&["task", "show", "nobody"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("nobody"), "{missing:?}");

    let usage = world.host().run(&["task", "list", "--limit", "none"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
}
