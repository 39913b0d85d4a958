//! What holds in every world once all is quiet.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use taskhost_tests::World;

/// Law 1, that history is complete, and that readers see each event once and in its order.
pub(crate) fn check(world: &World) {
    counts_add_up(world);
    history_folds_to_rows(world);
    readers_see_the_history(world);
}

/// Each consumed record has exactly one outcome, per partition.
pub(crate) fn counts_add_up(world: &World) {
    for row in world.progress() {
        assert_eq!(
            row.consumed,
            row.applied + row.ignored + row.dead_letters + row.waiting,
            "{row:?}"
        );
        let logical = if row.topic == world.topic("task-status") {
            "task-status"
        } else {
            "requests-web-crawl"
        };
        if row.topic == world.topic(logical) {
            let sent = world
                .read(logical)
                .iter()
                .filter(|record| record.partition == row.partition)
                .count();
            assert_eq!(
                usize::try_from(row.consumed),
                Ok(sent),
                "each record counts once: {row:?}"
            );
        }
    }
    letters_add_up(world);
}

/// [`counts_add_up`] where records came from elsewhere than the log.
pub(crate) fn sums_add_up(world: &World) {
    for row in world.progress() {
        assert_eq!(
            row.consumed,
            row.applied + row.ignored + row.dead_letters + row.waiting,
            "{row:?}"
        );
    }
    letters_add_up(world);
}

fn letters_add_up(world: &World) {
    let letters: i64 = world.progress().iter().map(|row| row.dead_letters).sum();
    let still = "SELECT count(*)::text FROM dead_letters
                 WHERE source = 'record' AND state NOT IN ('applied', 'ignored', 'waiting')";
    assert_eq!(
        world.ask(still),
        [Some(letters.to_string())],
        "a dead letter is counted as one until its replay waits or ends"
    );
}

fn history_folds_to_rows(world: &World) {
    let mut histories: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
    for event in world.all_events() {
        let entry = histories.entry(event.task_id.clone()).or_default();
        if event.number == 0 {
            assert_eq!(
                event.version,
                entry.0 + 1,
                "versions have no gap: {event:?}"
            );
            assert_eq!(event.from_status, entry.1, "{event:?}");
        }
        *entry = (event.version, Some(event.to_status));
    }
    let rows = world
        .tasks()
        .into_iter()
        .map(|task| (task.id, (task.version, Some(task.status))));
    assert_eq!(histories, rows.collect());
}

fn readers_see_the_history(world: &World) {
    let ids =
        world.read("task-events").into_iter().map(
            |record| match &record.json()["message"]["eventId"] {
                Value::String(id) => id.clone(),
                other => panic!("an event without an id: {other}"),
            },
        );
    let told: Vec<String> = ids.collect();
    let once: BTreeSet<String> = told.iter().cloned().collect();
    assert_eq!(told.len(), once.len(), "no event is told twice");
    let history = world.all_events().into_iter();
    let history: BTreeSet<String> = history
        .map(|event| format!("{}:{}:{}", event.task_id, event.version, event.number))
        .collect();
    assert_eq!(once, history);
}
