//! Kafka's own command line tools, beside the host.

use std::process::Command;

use taskhost::dev::broker;
use taskhost_tests::{World, run};

/// Quick to start, and small.
const JVM: [&str; 3] = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

fn tool(world: &World, class: &str, arguments: &[&str], input: Option<&str>) -> String {
    let libs = broker::find_libs().expect("Kafka's jars");
    let mut command = Command::new("java");
    command
        .args(JVM)
        .arg("-cp")
        .arg(libs.join("*"))
        .arg(format!("org.apache.kafka.tools.{class}"));
    command
        .args(["--bootstrap-server", world.brokers()])
        .args(arguments);
    run(command, input).ok()
}

#[test]
fn kafkas_console_tools_work_beside_the_host() {
    let world = World::new();
    let host = world.host().start();
    let (status, events) = (world.topic("task-status"), world.topic("task-events"));
    let lines = "{\"taskId\": \"typed\", \"status\": \"new\"}\n";
    let _ = tool(
        &world,
        "ConsoleProducer",
        &["--topic", &status],
        Some(lines),
    );
    world.wait_caught_up();
    assert_eq!(world.task("typed").status, "new");

    let reading = [
        "--topic",
        &events,
        "--from-beginning",
        "--isolation-level",
        "read_committed",
    ];
    let more = ["--max-messages", "1", "--property", "print.key=true"];
    let read = tool(
        &world,
        "consumer.ConsoleConsumer",
        &[reading.as_slice(), &more].concat(),
        None,
    );
    // The tool's own notices stand on the same output.
    let line = read.lines().find(|line| line.starts_with("typed\t"));
    let line = line.unwrap_or_else(|| panic!("no event of the task: {read}"));
    assert!(
        line.contains("{\"headers\":{\"taskId\":\"typed\""),
        "{read}"
    );
    assert!(line.contains("\"kind\":\"task.created\""), "{read}");

    let described = tool(
        &world,
        "consumer.group.ConsumerGroupCommand",
        &["--describe", "--group", &world.group()],
        None,
    );
    let rows: Vec<Vec<&str>> = described
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.first() == Some(&world.group().as_str()))
        .collect();
    assert_eq!(rows.len(), 6, "{described}");
    for row in &rows {
        // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
        assert_eq!((row[5], row[8]), ("0", "task-manager"), "{described}");
    }

    let listed = tool(&world, "TopicCommand", &["--list"], None);
    for topic in [
        "task-status",
        "requests-web-crawl",
        "task-events",
        "taskhost-events",
        "task-status.dlq",
    ] {
        assert!(
            listed.lines().any(|line| line == world.topic(topic)),
            "{topic}: {listed}"
        );
    }
    host.stop();
}
