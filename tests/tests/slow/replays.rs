//! Ten thousand dead letters replayed at once, with a host killed in the middle: each is decided exactly once.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use taskhost_tests::{Message, World, soon_within};

const LETTERS: usize = 10_000;

#[test]
fn ten_thousand_replays_are_each_decided_once_though_a_host_is_killed() {
    let world = World::with_partitions(3);
    let start = || {
        world
            .host()
            .env("TASKHOST_DEFERRAL_ATTEMPTS_MAX", "1")
            .env("TASKHOST_DEFERRAL_DELAY_MIN", "1")
            .env("TASKHOST_DEFERRAL_DELAY_MAX", "1")
            // Many small batches: the kill falls between others.
            .env("TASKHOST_BATCH_BYTES_MAX", "4096")
            .start()
    };
    let (first, second) = (start(), start());
    let update = |number: usize, status: &str| {
        let id = format!("t-{number}");
        Message::to("task-status")
            .key(&*id)
            .json(&json!({ "taskId": id, "status": status }))
    };
    for status in ["started", "new"] {
        let messages: Vec<Message> = (0..LETTERS).map(|number| update(number, status)).collect();
        for some in messages.chunks(1000) {
            world.send_all(some);
        }
        if status == "started" {
            soon_within(Duration::from_secs(120), "all of them are given up", || {
                (count(&world, "open") == LETTERS).then_some(())
            });
        }
    }
    world.wait_caught_up();

    let command = world.host();
    let outcome = thread::scope(|scope| {
        let replay = scope.spawn(|| {
            command
                .run(&["dlq", "replay", "--code", "task-missing", "--yes", "--json"])
                .ok()
        });
        soon_within(Duration::from_secs(60), "replays are under way", || {
            let applied = count(&world, "applied");
            (applied > 500 && applied < LETTERS - 500).then_some(())
        });
        first.kill();
        let left = count(&world, "replaying") + count(&world, "open");
        assert!(left > 0, "it was killed in the middle");
        eprintln!("killed with {left} to go");
        replay.join().expect("the command")
    });
    let told: Value = serde_json::from_str(outcome.trim()).expect("JSON");
    assert_eq!(
        (&told["applied"], &told["requested"]),
        (&json!(LETTERS), &json!(LETTERS)),
        "{told}"
    );
    world.wait_caught_up();

    // Once in the rows, once in the history, and once for the readers.
    assert_eq!(count(&world, "applied"), LETTERS);
    let wrong = "SELECT count(*)::text FROM tasks WHERE version <> 2 OR status <> 'started'";
    assert_eq!(world.ask(wrong), [Some("0".to_owned())]);
    let events = world.read("task-events");
    let ids: BTreeSet<String> = events
        .iter()
        .map(|record| record.json()["message"]["eventId"].to_string())
        .collect();
    assert_eq!((events.len(), ids.len()), (2 * LETTERS, 2 * LETTERS));
    assert!(world.waiting().is_empty());
    let mut sums = (0, 0);
    for row in world.progress() {
        assert_eq!(
            row.consumed,
            row.applied + row.ignored + row.dead_letters,
            "{row:?}"
        );
        sums = (sums.0 + row.applied, sums.1 + row.dead_letters);
    }
    let applied = i64::try_from(2 * LETTERS).expect("a number");
    assert_eq!(sums, (applied, 0));
    second.stop();
}

fn count(world: &World, state: &str) -> usize {
    let sql = "SELECT state FROM dead_letters";
    world
        .ask(sql)
        .iter()
        .filter(|found| found.as_deref() == Some(state))
        .count()
}
