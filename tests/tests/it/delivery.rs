//! Publishing at least once: the document's `acks: 1`, without transactions.

use std::collections::HashSet;

use taskhost_tests::{Message, Record, World, soon};

use crate::documented::update;

const MESSAGES: usize = 5_000;

#[test]
fn at_least_once_loses_nothing_when_the_host_dies_in_the_middle() {
    let world = World::new();
    let messages: Vec<Message> = (0..MESSAGES)
        .map(|number| update(&format!("t-{number}"), "new"))
        .collect();
    world.send_all(&messages);
    let mut host = world
        .host()
        .env("TASKHOST_DELIVERY", "at-least-once")
        .env("KAFKA_ACKS", "1")
        .env("KAFKA_IDEMPOTENT", "false")
        .env("TASKHOST_BATCH_MESSAGES_MAX", "50")
        .start();
    soon("it has told some events", || {
        (!world.read("task-events").is_empty()).then_some(())
    });
    host.kill();
    host.restart();
    world.wait_caught_up();
    let told: HashSet<String> = world
        .read("task-events")
        .iter()
        .map(Record::key_text)
        .collect();
    assert_eq!(
        told.len(),
        MESSAGES,
        "every task's event is told, perhaps more than once"
    );
    assert_eq!(world.tasks().len(), MESSAGES);
    host.stop();
}
