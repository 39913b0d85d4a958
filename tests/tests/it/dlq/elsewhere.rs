//! Dead letters that come from elsewhere: other systems' topics, and exports.

use serde_json::{Value, json};
use taskhost_tests::{Message, World, soon};

use super::{dlq, file, lines, parsed, shown};
use crate::documented::update;

fn new(id: &str) -> String {
    json!({ "taskId": id, "status": "new" }).to_string()
}

#[test]
fn dead_letters_of_every_dialect_are_taken_in_once_and_replayed() {
    let world = World::with_partitions(2);
    let host = world.host().start();
    let command = world.host();
    world.wait_caught_up();
    world.create_topic("foreign", 1);
    let (topic, foreign) = (world.topic("task-status"), world.topic("foreign"));
    let text = |message: Message, prefix: &str, offset: &str| {
        message
            .header(&format!("{prefix}topic"), topic.as_str())
            .header(&format!("{prefix}partition"), "1")
            .header(&format!("{prefix}offset"), offset)
    };
    let letter = |id: &str| {
        Message::to("foreign")
            .key(id)
            .value(new(id))
            .header("own", id)
    };
    let spring = letter("spring")
        .header("kafka_dlt-original-topic", topic.as_str())
        .header("kafka_dlt-original-partition", [0, 0, 0, 1])
        .header("kafka_dlt-original-offset", [0, 0, 0, 0, 0, 0, 1, 2])
        .header(
            "kafka_dlt-exception-cause-fqcn",
            "java.lang.IllegalStateException",
        )
        .header("kafka_dlt-exception-message", "no way");
    let connect = text(letter("connect"), "__connect.errors.", "1001").header(
        "__connect.errors.exception.class.name",
        "org.apache.kafka.connect.errors.DataException",
    );
    let streams = text(letter("streams"), "__streams.errors.", "1002")
        .header("__streams.errors.exception", "java.lang.RuntimeException");
    let share =
        text(letter("share"), "__dlq.errors.", "1003").header("__dlq.errors.message", "too often");
    let own = text(letter("own"), "__connect.errors.", "1004")
        .header("taskhost-dlq-code", "unknown-status")
        .header("taskhost-dlq-id", "5e5a1f4e-6f0a-5ad5-8c0e-3a1c2b4d5e6f");
    world.send_all(&[spring, connect, streams, share, own]);

    let import = ["import", "--topic", foreign.as_str()];
    let dry = lines(&command, &[&import[..], &["--dry-run"]].concat());
    assert_eq!((&dry[0]["read"], &dry[0]["new"]), (&json!(5), &json!(0)));
    for dialect in ["connect", "spring", "streams", "share-group", "taskhost"] {
        assert_eq!(dry[0]["dialects"][dialect], 1, "{dialect}: {dry:?}");
    }
    assert_eq!(world.dead_letters().len(), 0);
    let before = world.progress();
    assert_eq!(lines(&command, &import)[0]["new"], 5);
    assert_eq!(
        lines(&command, &import)[0]["new"],
        0,
        "twice changes nothing"
    );

    let listed = lines(&command, &["list"]);
    let mut found: Vec<(i64, String)> = listed
        .iter()
        .map(|line| {
            assert_eq!(
                (&line["topic"], &line["partition"]),
                (&json!(topic), &json!(1))
            );
            (
                line["offset"].as_i64().expect("a number"),
                line["code"].as_str().expect("a code").to_owned(),
            )
        })
        .collect();
    found.sort();
    let expected = [
        (258, "illegal-state-exception"),
        (1001, "data-exception"),
        (1002, "runtime-exception"),
        (1003, "imported"),
        (1004, "unknown-status"),
    ]
    .map(|(offset, code)| (offset, code.to_owned()));
    assert_eq!(found, expected);
    crate::laws::sums_add_up(&world);

    let told = lines(&command, &["replay", "--all", "--yes"]);
    assert_eq!(told[0]["applied"], 5, "{told:?}");
    assert_eq!(world.tasks().len(), 5);
    crate::laws::sums_add_up(&world);
    let sums =
        |rows: Vec<taskhost_tests::ProgressRow>| rows.iter().map(|row| row.consumed).sum::<i64>();
    assert_eq!(sums(world.progress()), sums(before) + 5);
    host.stop();
}

#[test]
fn what_has_no_partition_here_needs_a_topic_and_is_decided_under_ids_of_its_own() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    let command = world.host();
    world.send(update("first", "new"));
    world.wait_caught_up();
    world.create_topic("foreign", 1);
    let foreign = world.topic("foreign");
    world.send(Message::to("foreign").key("a").value(new("a")));
    let refused = dlq(&command, &["import", "--topic", &foreign]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--into"), "{}", refused.stderr);
    let told = lines(
        &command,
        &["import", "--topic", &foreign, "--into", "task-status"],
    );
    assert_eq!(told[0]["new"], 1);
    let id = lines(&command, &["list"])[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(shown(&command, &id)["imported"], format!("{foreign}[0]@0"));
    let _ = dlq(&command, &["replay", &id]).ok();
    assert_eq!(world.task("a").status, "new");
    host.stop();
}

#[test]
fn an_export_is_taken_in_by_another_group_as_it_was() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    let command = world.host();
    world.send_all(&[
        update("a", "done")
            .header("bytes", [0xff, 0])
            .null_header("nothing"),
        Message::to("task-status").key("b").value([0xff, 0xfe]),
        Message::to("task-status").key("c"),
    ]);
    world.wait_caught_up();
    let good = file(&world, "good.json", &new("a"));
    let id = lines(&command, &["list", "--task", "a"])[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let _ = dlq(
        &command,
        &["edit", &id, "--file", &good, "--reason", "misspelt"],
    )
    .ok();
    let export = dlq(&command, &["export"]).ok();
    let exported = parsed(&export);
    assert_eq!(exported.len(), 3);
    let path = file(&world, "letters.jsonl", &export);

    let other = |builder: taskhost_tests::HostBuilder| {
        builder
            .env("KAFKA_GROUP_ID", format!("{}-other", world.group()))
            .env("KAFKA_AUTO_OFFSET_RESET", "latest")
    };
    let second = other(world.host()).start();
    let command = other(world.host());
    soon("the other group has its partitions", || {
        let sql = "SELECT count(*)::text FROM progress WHERE group_id LIKE '%-other' AND published IS NOT NULL";
        (world.ask(sql) == [Some("2".to_owned())]).then_some(())
    });
    let import = ["import", "--file", path.as_str()];
    assert_eq!(lines(&command, &import)[0]["new"], 3);
    assert_eq!(lines(&command, &import)[0]["new"], 0);
    let again = parsed(&dlq(&command, &["export"]).ok());
    let by_id = |mut all: Vec<Value>| {
        all.sort_by_key(|line| line["id"].to_string());
        let names = [
            "id",
            "topic",
            "partition",
            "offset",
            "code",
            "task",
            "key",
            "value",
            "editedValue",
            "headers",
            "timestamp",
            "reason",
            "stage",
            "plugin",
            "failedAt",
        ];
        all.into_iter()
            .map(|line| names.map(|name| line[name].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(by_id(again), by_id(exported));
    let _ = dlq(&command, &["replay", &id]).ok();
    assert_eq!(world.task("a").status, "new");
    second.stop();
    host.stop();
}
