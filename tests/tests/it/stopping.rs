//! The end of a host, asked for.

use nix::sys::signal::Signal;
use std::time::Duration;
use taskhost_tests::{Message, World, soon, soon_within};

use crate::documented::update;

const MESSAGES: usize = 20_000;

fn consumed(world: &World) -> i64 {
    world.progress().iter().map(|row| row.consumed).sum()
}

#[test]
fn a_host_that_is_stopped_under_load_leaves_the_group_and_loses_nothing() {
    let world = World::new();
    let messages: Vec<Message> = (0..MESSAGES)
        .map(|number| update(&format!("t-{number}"), "new"))
        .collect();
    world.send_all(&messages);
    // Small batches, so that there is much left to do when the signal comes.
    let mut host = world
        .host()
        .env("TASKHOST_BATCH_MESSAGES_MAX", "50")
        .start();
    soon("it is at work", || (consumed(&world) > 0).then_some(()));
    host.terminate();
    assert_eq!(world.group_state(), ("Empty".to_owned(), 0), "it has left");
    let before = usize::try_from(consumed(&world)).expect("a count");
    assert!(before < MESSAGES, "the test is to stop it in the middle");
    assert!(
        !host
            .log()
            .contains("not every partition was finished in time")
    );

    host.restart();
    world.wait_caught_up();
    assert_eq!(world.tasks().len(), MESSAGES);
    crate::laws::check(&world);
    host.stop();
}

#[test]
fn a_second_signal_ends_a_host_at_once() {
    let world = World::new();
    let mut host = world.host().start();
    // A batch that can't end keeps the workers busy, for as long as they may be.
    let held = world.hold_tasks(update("held", "new"));
    host.signal(Signal::SIGTERM);
    host.wait_log("stopping: ");
    host.signal(Signal::SIGTERM);
    let status = soon_within(Duration::from_secs(2), "it ends at once", || {
        let ended = host.exit_status();
        ended.and_then(|status| status.code())
    });
    assert_eq!(status, 130);

    drop(held);
    host.restart();
    world.wait_caught_up();
    assert_eq!(world.task("held").status, "new");
    crate::laws::check(&world);
    host.stop();
}
