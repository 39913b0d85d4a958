//! `taskhost waiting`: what waits is listed, tried at once, and given up by its owner.

use serde_json::{Value, json};
use taskhost_tests::{Message, World, soon};

use crate::documented::update;
use crate::laws;

/// Longer than any test waits: whatever happens before was not a due time's doing.
const NEVER_MS: &str = "600000";

#[test]
fn what_waits_is_listed_and_tried_at_once_and_what_is_given_up_is_a_dead_letter() {
    let world = World::with_partitions(1);
    let host = world
        .host()
        .env("TASKHOST_DEFERRAL_DELAY_MIN", NEVER_MS)
        .env("TASKHOST_DEFERRAL_DELAY_MAX", NEVER_MS)
        .start();
    let command = world.host();
    let completed = json!({ "taskId": "a", "status": "completed", "result": "one" });
    world.send_all(&[
        Message::to("task-status").key("a").json(&completed),
        update("a", "started"),
    ]);
    soon("both wait", || (world.waiting().len() == 2).then_some(()));

    let listed = command.run(&["waiting", "list", "--task", "a", "--json"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let rows: Vec<Value> = listed
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["sequence"].as_i64(),
                row["why"].as_str(),
                row["attempt"].as_i64(),
            )
        })
        .collect();
    let missing = Some("task-missing");
    assert_eq!(
        shown,
        [(Some(0), missing, Some(1)), (Some(1), missing, Some(1))]
    );
    let ids: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    let nobody = "00000000-0000-0000-0000-000000000000";

    let retried = command.run(&["waiting", "retry", ids[1], nobody]);
    assert_eq!(retried.code, Some(1));
    assert!(retried.stdout.contains("1 due now"), "{}", retried.stdout);
    assert!(retried.stderr.contains(nobody), "{}", retried.stderr);
    assert_eq!(
        command.run(&["waiting", "list", "--why", "never"]).code,
        Some(2)
    );

    let unasked = command.run(&["waiting", "give-up", ids[0]]);
    assert_eq!(unasked.code, Some(2), "nobody said yes");
    let given_up = command.run(&["waiting", "give-up", ids[0], "--yes"]);
    assert_eq!(given_up.code, Some(0), "{}", given_up.stderr);
    let letter = soon("the dead letter", || {
        world.dead_letters().into_iter().next()
    });
    assert_eq!(
        (letter.record_offset, letter.code.as_str()),
        (0, "given-up")
    );
    world.send(update("a", "new"));
    soon("nothing waits any more", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();
    let events: Vec<_> = world
        .events("a")
        .into_iter()
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
