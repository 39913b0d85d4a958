//! Replays: decided once, in the order of their task, and told apart by how they end.

use serde_json::json;
use taskhost_tests::{Message, World, soon};

use super::{dlq, file, lines, only, shown};
use crate::documented::{self, Form, update};
use crate::laws;

const NEVER_MS: &str = "600000";

#[test]
fn an_edited_dead_letter_is_replayed_once_and_its_history_has_what_was_decided() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    let command = world.host();
    world.send_all(&[update("a", "done"), update("b", "new")]);
    world.wait_caught_up();

    let listed = lines(
        &command,
        &["list", "--topic", "task-status", "--code", "unknown-status"],
    );
    assert_eq!(listed.len(), 1, "{listed:?}");
    let id = only(&world);
    let fields = [
        "id",
        "topic",
        "partition",
        "offset",
        "code",
        "task",
        "state",
    ]
    .map(|name| &listed[0][name]);
    let topic = world.topic("task-status");
    assert_eq!(
        fields,
        [
            &json!(id),
            &json!(topic),
            &json!(0),
            &json!(0),
            &json!("unknown-status"),
            &json!("a"),
            &json!("open")
        ]
    );

    // What would fail again is refused, and says why.
    let bad = file(&world, "bad.json", "{\"taskId\": \"a\", ");
    let refused = dlq(
        &command,
        &["edit", &id, "--file", &bad, "--reason", "a try"],
    );
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("not-json"), "{}", refused.stderr);
    let good = file(&world, "good.json", r#"{"taskId": "a", "status": "new"}"#);
    let _ = dlq(
        &command,
        &["edit", &id, "--file", &good, "--reason", "it was misspelt"],
    )
    .ok();
    let sample = lines(
        &command,
        &["replay", "--code", "unknown-status", "--dry-run"],
    );
    assert_eq!(
        (&sample[0]["count"], &sample[0]["sample"][0]["id"]),
        (&json!(1), &json!(id))
    );
    assert!(world.find_task("a").is_none());

    let told = lines(&command, &["replay", &id]);
    assert_eq!(
        (&told[0]["applied"], &told[0]["requested"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(world.task("a").status, "new");
    let letter = shown(&command, &id);
    assert_eq!(
        (&letter["state"], &letter["replays"]),
        (&json!("applied"), &json!(1))
    );
    assert_eq!(
        letter["value"]["text"],
        json!({"taskId": "a", "status": "done"}).to_string()
    );
    assert_eq!(letter["editHistory"][0]["reason"], "it was misspelt");
    // The event leads to the dead letter by the record's place, and has the bytes that were decided.
    let events = world.events("a");
    assert_eq!((events.len(), events[0].cause_offset), (1, 0));
    let causes = world.ask("SELECT encode(cause, 'escape') FROM task_events WHERE task_id = 'a'");
    assert!(
        causes[0]
            .as_deref()
            .is_some_and(|cause| cause.contains(r#""status": "new""#)),
        "{causes:?}"
    );

    // Once is all: neither a second replay nor an edit takes it.
    assert_eq!(dlq(&command, &["replay", &id]).code, Some(1));
    assert_eq!(
        dlq(
            &command,
            &["edit", &id, "--file", &good, "--reason", "again", "--force"]
        )
        .code,
        Some(1)
    );
    world.wait_caught_up();
    laws::check(&world);
    assert_eq!(
        host.metric(
            "taskhost_dead_letter_replays_total",
            &[("topic", &topic), ("outcome", "applied")]
        ),
        Some(1.0)
    );
    host.stop();
}

#[test]
fn a_replay_that_fails_again_says_why_now_and_is_parked_in_the_end() {
    let world = World::with_partitions(1);
    let host = world.host().env("TASKHOST_DLQ_REPLAYS_MAX", "2").start();
    let command = world.host();
    world.send(update("a", "done"));
    world.wait_caught_up();
    let id = only(&world);
    let worse = file(&world, "worse.json", r#"{"taskId": "a"}"#);
    let _ = dlq(
        &command,
        &["edit", &id, "--file", &worse, "--reason", "a mistake"],
    )
    .ok();

    let failed = dlq(&command, &["replay", &id, "--json"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    let letter = shown(&command, &id);
    assert_eq!(
        ["code", "state", "replays"].map(|name| &letter[name]),
        [&json!("invalid-body"), &json!("open"), &json!(1)]
    );
    assert_eq!(dlq(&command, &["replay", &id]).code, Some(1));
    assert_eq!(shown(&command, &id)["state"], "parked");
    let refused = dlq(&command, &["replay", &id]);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(shown(&command, &id)["replays"], 2);

    world.wait_caught_up();
    let told: Vec<_> = world
        .read("task-status.dlq")
        .iter()
        .map(|record| {
            (
                record.header("taskhost-dlq-id"),
                record.header("taskhost-dlq-replays"),
            )
        })
        .collect();
    let one = |replays: &str| (Some(id.clone()), Some(replays.to_owned()));
    assert_eq!(told, [one("0"), one("1"), one("2")]);
    laws::counts_add_up(&world);

    let good = file(&world, "good.json", r#"{"taskId": "a", "status": "new"}"#);
    let _ = dlq(
        &command,
        &["edit", &id, "--file", &good, "--reason", "now it is right"],
    )
    .ok();
    let _ = dlq(&command, &["replay", &id, "--force"]).ok();
    assert_eq!(world.task("a").status, "new");
    world.wait_caught_up();
    laws::check(&world);
    host.stop();
}

#[test]
fn a_replay_takes_its_records_place_among_what_waits_for_its_task() {
    let world = World::with_partitions(1);
    let limits = ["TASKHOST_DEFERRAL_DELAY_MIN", "TASKHOST_DEFERRAL_DELAY_MAX"];
    let host = limits
        .iter()
        .fold(world.host(), |host, name| host.env(name, NEVER_MS))
        .start();
    let command = world.host();
    world.send_all(&[update("late", "done"), update("late", "started")]);
    world.wait_caught_up();
    let id = only(&world);
    let last = file(
        &world,
        "last.json",
        r#"{"taskId": "late", "status": "completed", "result": "it"}"#,
    );
    let _ = dlq(
        &command,
        &["edit", &id, "--file", &last, "--reason", "it was this"],
    )
    .ok();
    let told = lines(&command, &["replay", &id]);
    assert_eq!(told[0]["waiting"], 1, "{told:?}");
    assert_eq!(shown(&command, &id)["state"], "waiting");
    laws::counts_add_up(&world);
    // What comes after it is decided after it.
    world.send(update("late", "error"));
    world.wait_caught_up();
    let waiting: Vec<_> = world
        .ask("SELECT sequence || ' ' || (due IS NOT NULL) FROM wakeups ORDER BY sequence, place");
    let expected = ["0 true", "1 true", "2 true"].map(|row| Some(row.to_owned()));
    assert_eq!(waiting, expected);

    let headers = json!({ "requestId": "late" });
    world.send(Form::Envelope.message("requests-web-crawl", &headers, &documented::request()));
    soon("all that waited is decided", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();
    let kinds: Vec<String> = world
        .events("late")
        .into_iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(
        kinds,
        ["task.created", "task.completed"],
        "the update is stale by then"
    );
    assert_eq!(shown(&command, &id)["state"], "applied");
    laws::check(&world);
    host.stop();
}

#[test]
fn what_only_waited_for_its_task_says_so_and_is_replayed_in_bulk() {
    let world = World::with_partitions(3);
    let host = world
        .host()
        .env("TASKHOST_DEFERRAL_ATTEMPTS_MAX", "1")
        .env("TASKHOST_DEFERRAL_DELAY_MIN", "1")
        .env("TASKHOST_DEFERRAL_DELAY_MAX", "1")
        .start();
    let command = world.host();
    let tasks: Vec<String> = (0..60).map(|number| format!("t-{number}")).collect();
    let started: Vec<Message> = tasks.iter().map(|id| update(id, "started")).collect();
    world.send_all(&started);
    soon("all of them are given up", || {
        (world.dead_letters().len() == 60).then_some(())
    });
    for letter in world.dead_letters() {
        assert_eq!(letter.code, "task-missing");
        assert!(letter.reason.starts_with("it waited"), "{}", letter.reason);
    }
    let new: Vec<Message> = tasks.iter().map(|id| update(id, "new")).collect();
    world.send_all(&new);
    world.wait_caught_up();
    let asked = dlq(&command, &["replay", "--code", "task-missing"]);
    assert_eq!(
        asked.code,
        Some(2),
        "nobody can be asked here: {}",
        asked.stderr
    );
    let told = lines(
        &command,
        &["replay", "--code", "task-missing", "--rate", "100", "--yes"],
    );
    assert_eq!(
        (&told[0]["applied"], &told[0]["failed"]),
        (&json!(60), &json!(0))
    );
    for task in world.tasks() {
        assert_eq!((task.status.as_str(), task.version), ("started", 2));
    }
    world.wait_caught_up();
    laws::check(&world);
    host.stop();
}

#[test]
fn a_timer_that_was_given_up_is_replayed_as_the_timer_that_it_was() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    world.send(update("a", "new"));
    world.wait_caught_up();
    let before = world.progress();
    // As a batch leaves it that gave a timer up.
    let row = "INSERT INTO dead_letters (group_id, id, topic, partition, record_topic, record_partition, record_offset,
        record_timestamp, key, value, headers, code, reason, stage, attempts, task_id, route, failed_at, source)
        SELECT group_id, gen_random_uuid(), topic, 0, topic, 0, 0, 1700000000000, 'a', '{}',
        '[{\"name\": \"timerName\", \"text\": \"deadline\"}]', 'trap', 'it trapped', 'decide', 1, 'a', 'task-status',
        now(), 'timer'
        FROM progress WHERE topic LIKE 'task-status%' RETURNING id::text";
    let id = world.ask(row).remove(0).expect("an id");
    let finished = dlq(&world.host(), &["replay", &id, "--json"]);
    let letter = shown(&world.host(), &id);
    assert!(
        ["applied", "ignored", "open"].contains(&letter["state"].as_str().unwrap_or_default()),
        "it was decided: {letter} {finished:?}"
    );
    assert_eq!(letter["replays"], 1);
    world.wait_caught_up();
    let counts = |rows: Vec<taskhost_tests::ProgressRow>| -> Vec<_> {
        rows.iter()
            .map(|row| (row.consumed, row.dead_letters, row.timers))
            .collect()
    };
    assert_eq!(
        counts(world.progress()),
        counts(before),
        "it is no record, and fired before"
    );
    host.stop();
}

#[test]
fn a_replay_that_cannot_be_written_keeps_no_record_waiting() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    world.send(update("a", "done"));
    world.wait_caught_up();
    host.stop();
    let command = world.host();
    let _ = dlq(&command, &["replay", &only(&world), "--no-wait"]).ok();

    // Somebody looks at the dead letter and went home with the transaction open.
    let held = world.hold("SELECT FROM taskhost.dead_letters FOR UPDATE");
    world.send(update("b", "new"));
    let host = world
        .host()
        .env("TASKHOST_DATABASE_LOCK_TIMEOUT", "100")
        .start();
    soon("the record is decided", || world.find_task("b"));
    assert_eq!(shown(&command, &only(&world))["state"], "replaying");
    drop(held);
    soon("so is the replay", || {
        (shown(&command, &only(&world))["state"] == "open").then_some(())
    });
    host.stop();
}
