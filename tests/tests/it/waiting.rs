//! `taskhost waiting`: what waits is listed, tried at once, and given up by its owner.

use serde_json::{Value, json};
use taskhost_tests::{Host, HostBuilder, Message, World, soon};

use crate::documented::update;
use crate::laws;

/// Longer than any test waits: whatever happens before was not a due time's doing.
const NEVER_MS: &str = "600000";

/// What no row has.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// A host on which two messages wait for the task `a`: its end at offset 0, its start at offset 1.
fn two_wait() -> (World, Host) {
    let world = World::with_partitions(1);
    let host = world
        .host()
        .env("TASKHOST_DEFERRAL_DELAY_MIN", NEVER_MS)
        .env("TASKHOST_DEFERRAL_DELAY_MAX", NEVER_MS)
        .start();
    let completed = json!({ "taskId": "a", "status": "completed", "result": "one" });
    world.send_all(&[
        Message::to("task-status").key("a").json(&completed),
        update("a", "started"),
    ]);
    soon("both wait", || (world.waiting().len() == 2).then_some(()));
    (world, host)
}

fn listed(command: &HostBuilder, arguments: &[&str]) -> Vec<Value> {
    let listed = command.run(&[&["waiting", "list", "--json"], arguments].concat());
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let lines = listed.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn id(row: &Value) -> &str {
    row["id"].as_str().expect("an id")
}

#[test]
fn what_waits_is_listed_and_tried_at_once() {
    let (world, host) = two_wait();
    let command = world.host();
    let rows = listed(&command, &["--task", "a", "--why", "task-missing"]);
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row["sequence"].as_i64(), row["attempt"].as_i64()))
        .collect();
    assert_eq!(shown, [(Some(0), Some(1)), (Some(1), Some(1))]);
    assert_eq!(listed(&command, &["--why", "timer"]), Vec::<Value>::new());
    let people = command.run(&["waiting", "list", "--limit", "1"]);
    assert!(people.stdout.contains("task-status"), "{}", people.stdout);
    assert!(people.stderr.contains("--all"), "{}", people.stderr);
    let wrong = command.run(&["waiting", "list", "--why", "never"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("stranded"), "{}", wrong.stderr);

    let retried = command.run(&["waiting", "retry", id(&rows[1]), NOBODY]);
    assert_eq!(retried.code, Some(1));
    assert!(retried.stdout.contains("1 due now"), "{}", retried.stdout);
    assert!(retried.stderr.contains(NOBODY), "{}", retried.stderr);
    soon("it was tried, before its time", || {
        let rows = listed(&command, &[]);
        let waits = rows.iter().find(|row| row["sequence"] == 1)?;
        let later = waits["due"].as_str()? > rows[0]["since"].as_str()?;
        (waits["attempt"] == 1 && later).then_some(())
    });
    host.stop();
}

#[test]
fn what_is_given_up_is_a_dead_letter_and_what_waits_behind_it_goes_on() {
    let (world, host) = two_wait();
    let command = world.host();
    let rows = listed(&command, &[]);
    let unasked = command.run(&["waiting", "give-up", id(&rows[0])]);
    assert_eq!(unasked.code, Some(2), "nobody said yes");
    let given_up = command.run(&["waiting", "give-up", id(&rows[0]), "--yes"]);
    assert_eq!(given_up.code, Some(0), "{}", given_up.stderr);
    let letter = soon("the dead letter", || {
        world.dead_letters().into_iter().next()
    });
    let (offset, code) = (letter.record_offset, letter.code.as_str());
    assert_eq!((offset, code), (0, "given-up"));

    world.send(update("a", "new"));
    soon("nothing waits any more", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();
    let events = world.events("a").into_iter();
    let events: Vec<_> = events
        .map(|event| (event.kind, event.cause_offset))
        .collect();
    let event = |kind: &str, offset: i64| (kind.to_owned(), offset);
    assert_eq!(events, [event("task.created", 2), event("task.started", 1)]);
    let empty = command.run(&["waiting", "list"]);
    assert_eq!(empty.stdout, "nothing waits\n");

    // It can be replayed, and takes effect then.
    let replayed = command.run(&["dlq", "replay", "--code", "given-up", "--yes"]);
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    soon("the replay", || {
        (world.task("a").status == "completed").then_some(())
    });
    laws::check(&world);
    host.stop();
}
