//! Law 4 on a real host: what waits, waits behind what is earlier, and never for what is behind it.

use serde_json::json;
use taskhost_tests::{Message, World, soon};

use crate::dlq::{dlq, file, lines, only, shown};
use crate::documented::update;
use crate::laws;

/// Longer than any test waits: whatever happens before was not a due time's doing.
const NEVER_MS: &str = "600000";

fn result(id: &str, result: &str) -> Message {
    let body = json!({ "taskId": id, "status": "completed", "result": result });
    Message::to("task-status").key(id).json(&body)
}

fn events(world: &World, task: &str) -> Vec<(String, i64)> {
    let events = world.events(task).into_iter();
    events
        .map(|event| (event.kind, event.cause_offset))
        .collect()
}

fn event(kind: &str, offset: i64) -> (String, i64) {
    (kind.to_owned(), offset)
}

#[test]
fn updates_before_the_creation_of_their_task_are_decided_once_it_is_there() {
    let world = World::with_partitions(1);
    let host = world
        .host()
        .env("TASKHOST_DEFERRAL_DELAY_MIN", NEVER_MS)
        .env("TASKHOST_DEFERRAL_DELAY_MAX", NEVER_MS)
        .start();
    // All in one batch, or one after the other: the order is the same.
    world.send_all(&[
        update("a", "started"),
        result("a", "one"),
        update("a", "new"),
        result("a", "two"),
    ]);
    world.send(update("b", "started"));
    soon("the first update of b waits", || {
        (world.waiting().iter().any(|row| row.task_id == "b")).then_some(())
    });
    world.send(update("b", "new"));
    soon("nothing waits any more", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();

    let a = [
        event("task.created", 2),
        event("task.started", 0),
        event("task.completed", 1),
    ];
    assert_eq!(events(&world, "a"), a);
    assert_eq!(world.task("a").data["result"], json!("one"));
    assert_eq!(
        events(&world, "b"),
        [event("task.created", 5), event("task.started", 4)]
    );
    let letters: Vec<_> = world
        .dead_letters()
        .into_iter()
        .map(|one| (one.record_offset, one.code))
        .collect();
    assert_eq!(
        letters,
        [(3, "illegal-transition".to_owned())],
        "the second result came last"
    );
    laws::check(&world);
    host.stop();
}

#[test]
fn a_dead_letter_of_the_creation_is_edited_and_replayed_before_what_waits_for_it() {
    let world = World::with_partitions(1);
    let host = world
        .host()
        .env("TASKHOST_DEFERRAL_DELAY_MIN", NEVER_MS)
        .env("TASKHOST_DEFERRAL_DELAY_MAX", NEVER_MS)
        .start();
    let command = world.host();
    let wrong = json!({ "taskId": "k-1", "status": "new", "result": 5 });
    world.send_all(&[
        Message::to("task-status").key("k-1").json(&wrong),
        update("k-1", "started"),
    ]);
    world.wait_caught_up();
    assert_eq!(world.waiting().len(), 1);

    let id = only(&world);
    let good = file(&world, "good.json", r#"{"taskId": "k-1", "status": "new"}"#);
    let _ = dlq(
        &command,
        &[
            "edit",
            &id,
            "--file",
            &good,
            "--reason",
            "a result has no place here",
        ],
    )
    .ok();
    let told = lines(&command, &["replay", &id]);
    assert_eq!(told[0]["applied"], json!(1), "{told:?}");
    soon("the update is decided behind it", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();
    assert_eq!(
        events(&world, "k-1"),
        [event("task.created", 0), event("task.started", 1)]
    );
    laws::check(&world);
    host.stop();
}

#[test]
fn a_route_may_hold_a_task_behind_its_dead_letter_until_that_is_replayed_or_discarded() {
    let mut world = World::with_partitions(1);
    world.consumes(&["task-status"]);
    let routes = "[[route]]\ntopic = \"task-status\"\nplugin = \"task_status\"\n\
                  default_task_type = \"web-crawl\"\non_dead_letter = \"hold-task\"\n";
    let host = world.host().config(routes).start();
    let command = world.host().config(routes);
    let wrong = |id: &str| {
        let body = json!({ "taskId": id, "status": "started", "startedAt": 5 });
        Message::to("task-status").key(id).json(&body)
    };
    for id in ["replayed", "discarded"] {
        world.send_all(&[update(id, "new"), wrong(id), result(id, "done")]);
    }
    world.send(update("other", "new"));
    soon("the results wait", || {
        (world.waiting().len() == 2).then_some(())
    });
    world.wait_caught_up();
    assert_eq!(world.task("other").status, "new");
    assert_eq!(world.task("replayed").status, "new");

    let letters = world.dead_letters();
    let of = |offset: i64| {
        let letter = letters.iter().find(|one| one.record_offset == offset);
        letter.expect("a dead letter").id.to_string()
    };
    let (replayed, discarded) = (of(1), of(4));
    assert_eq!(shown(&command, &replayed)["holds"], json!(true));
    let good = file(
        &world,
        "good.json",
        r#"{"taskId": "replayed", "status": "started"}"#,
    );
    let _ = dlq(
        &command,
        &["edit", &replayed, "--file", &good, "--reason", "no time"],
    )
    .ok();
    let told = lines(&command, &["replay", &replayed]);
    assert_eq!(told[0]["applied"], json!(1), "{told:?}");
    soon("what waited behind it is decided", || {
        (world.task("replayed").status == "completed").then_some(())
    });
    let order = [
        event("task.created", 0),
        event("task.started", 1),
        event("task.completed", 2),
    ];
    assert_eq!(events(&world, "replayed"), order);
    assert_eq!(world.task("discarded").status, "new");

    let _ = dlq(
        &command,
        &[
            "discard",
            &discarded,
            "--reason",
            "nobody needs it",
            "--yes",
        ],
    )
    .ok();
    soon("what waited behind the other one is decided", || {
        (world.task("discarded").status == "completed").then_some(())
    });
    assert_eq!(world.waiting(), []);
    host.stop();
}
