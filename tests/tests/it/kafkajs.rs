//! The scripts of the replaced system's users, run with the client library that they were written for.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};
use taskhost_tests::{World, checkout, run};

/// Node shows the first 100 of a list, and other tests' topics are on the broker too.
const PRELUDE: &str =
    "import { inspect } from 'node:util';\ninspect.defaultOptions.maxArrayLength = null;\n";

/// Runs a script as it stands, with this world's broker and topics put in and its function called.
fn script(world: &World, name: &str, function: &str) -> String {
    let modules = checkout().join(".tools/node/node_modules");
    let dir = world.dir().join("scripts");
    if !dir.exists() {
        fs::create_dir(&dir).expect("a directory");
        symlink(&modules, dir.join("node_modules")).expect("a link to kafkajs");
    }
    let path = checkout().join(format!("tests/kafkajs/scripts/{name}.ts"));
    let mut text = fs::read_to_string(path)
        .expect("the script")
        .replace("localhost:9092", world.brokers());
    for topic in ["requests-web-crawl", "task-status"] {
        text = text.replace(
            &format!("topic: '{topic}'"),
            &format!("topic: '{}'", world.topic(topic)),
        );
    }
    // They hold no type annotation, so they are JavaScript as well.
    let file = dir.join(format!("{name}.mjs"));
    fs::write(&file, format!("{PRELUDE}{text}\nawait {function}();\n")).expect("the script");
    let mut command = Command::new("node");
    command.arg(file).env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
    run(command, None).ok()
}

#[test]
fn the_documented_scripts_work_unchanged_with_kafkajs() {
    let world = World::new();
    // kafkajs has no codec for lz4, the default: its consumers need gzip, or a codec of their own.
    let host = world.host().env("KAFKA_COMPRESSION", "gzip").start();

    let listed = script(&world, "test-kafka-connection", "testConnection");
    assert!(listed.contains(&world.topic("task-status")), "{listed}");

    script(&world, "publish-new-task", "publishTestTask");
    world.wait_caught_up();
    let tasks = world.tasks();
    assert_eq!(tasks.len(), 1);
    assert_eq!(
        (tasks[0].kind.as_str(), tasks[0].status.as_str()),
        ("web-crawl", "new")
    );
    assert_eq!(tasks[0].data["userQuery"], "Test query");

    let read = script(&world, "read-task-status", "readNewTask");
    let read: Value = serde_json::from_str(read.lines().last().unwrap_or_default())
        .expect("what the worker read");
    assert_eq!(
        read,
        json!({ "key": tasks[0].id, "query": "Test query", "status": "new" })
    );

    script(&world, "test-task-updates", "publishUpdates");
    world.wait_caught_up();
    let task = world.task("test-task-2");
    assert_eq!((task.status.as_str(), task.version), ("completed", 3));
    assert_eq!(task.data["result"], "Found 5 products");
    crate::laws::check(&world);
    host.stop();
}
