//! How many messages are decided and committed together.

use taskhost_tests::World;

use crate::documented::update;

const MESSAGES: usize = 40;

fn batches(world: &World) -> i64 {
    world.progress().iter().map(|row| row.batch).sum()
}

#[test]
fn messages_that_came_one_by_one_are_decided_together_once_they_queue_up() {
    let world = World::with_partitions(2);
    let host = world.host().start();
    let held = world.hold_tasks(update("held", "new"));
    let before = batches(&world);
    // Each is fetched by itself, and the answer tells of the other partition that its end is reached.
    for (number, partition) in (0..MESSAGES).zip([0, 1].into_iter().cycle()) {
        world.send(update(&format!("t-{number}"), "new").partition(partition));
    }
    drop(held);
    world.wait_caught_up();
    assert_eq!(world.tasks().len(), MESSAGES + 1);
    let made = batches(&world) - before;
    assert!(
        made <= 8,
        "{made} batches for what waited and {MESSAGES} messages"
    );
    host.stop();
}
