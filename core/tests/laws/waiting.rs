//! What waits, for what, and when it is given up.

use std::time::Duration;

use taskhost_core::waiting::Why;

use crate::plugin::{Asked, NOW, message};
use crate::world::World;

/// The settings' limits.
const ATTEMPTS_MAX: i32 = 10;
const AGE_MAX: i64 = 60_000;
const RETRIES_MAX: i32 = 3;

fn codes(world: &World) -> Vec<(i64, String, i32)> {
    let letters = world.letters().into_iter();
    letters
        .map(|letter| (letter.message.position.offset, letter.code, letter.attempts))
        .collect()
}

/// The same, as written in a test.
fn coded(codes: &[(i64, &str, i32)]) -> Vec<(i64, String, i32)> {
    let codes = codes.iter();
    codes
        .map(|(offset, code, attempts)| (*offset, (*code).to_owned(), *attempts))
        .collect()
}

/// A world whose plugin is on probation.
fn on_probation() -> World {
    let mut world = World::solo();
    world
        .plugin
        .each(|decider| decider.hold = Some(Duration::from_secs(5)));
    world
}

#[test]
fn a_deadline_is_tried_again_before_it_counts_and_only_its_task_waits() {
    let mut world = World::solo();
    world.batch(&[
        message(0, 1, Asked::Slow),
        message(1, 2, Asked::Create),
        message(2, 1, Asked::Create),
    ]);
    assert_eq!(world.counts().applied, 1, "the other task goes on");
    assert_eq!(world.rows().len(), 2, "its own later message waits");
    for tries in 1..=RETRIES_MAX {
        let row = &world.rows()[0];
        assert_eq!((row.why, row.tries, row.attempt), (Why::Deadline, tries, 0));
        let (due, backoff_max) = (row.due.expect("a time"), 100 << (tries - 1));
        assert!(
            (0..=backoff_max).contains(&(due - world.now)),
            "{} of {backoff_max}",
            due - world.now
        );
        assert_eq!(
            (world.rows()[1].due, world.rows()[1].why),
            (None, Why::Turn)
        );
        world.wake(500);
    }
    assert_eq!(
        codes(&world),
        coded(&[(0, "plugin-deadline", RETRIES_MAX + 1)])
    );
    assert_eq!(world.counts().applied, 2);
    assert!(world.rows().is_empty());
    assert_eq!(world.counts().consumed(), 3);
}

#[test]
fn the_backoffs_of_many_are_spread_and_deciding_again_draws_the_same() {
    let log: Vec<_> = (0..100)
        .map(|offset| message(offset, u8::try_from(offset).expect("small"), Asked::Slow))
        .collect();
    let (mut world, mut again) = (World::solo(), World::solo());
    world.batch(&log);
    again.batch(&log);
    assert_eq!(world.store, again.store);
    let rows = world.rows().into_iter();
    let early = rows.filter(|row| row.due < Some(NOW + 50)).count();
    assert!(
        (25..=75).contains(&early),
        "{early} of 100 in the first half"
    );
}

#[test]
fn a_deadline_and_a_deferral_are_counted_apart() {
    let mut world = World::solo();
    world.batch(&[message(0, 1, Asked::Slow)]);
    // The machine is fast again, and the plugin defers.
    let row = &world.rows()[0];
    assert_eq!((row.tries, row.attempt), (1, 0));
    world.change_first(|row| row.cause = deferring(0));
    world.wake(500);
    let row = &world.rows()[0];
    assert_eq!((row.why, row.tries, row.attempt), (Why::TaskMissing, 0, 1));
}

#[test]
fn what_faults_on_probation_is_held_and_spends_no_attempt() {
    let mut world = on_probation();
    world.batch(&[message(0, 1, Asked::Fault), message(1, 1, Asked::Create)]);
    for held in 1..100 {
        let row = &world.rows()[0];
        assert_eq!((row.why, row.attempt, row.tries), (Why::Held, 0, 0));
        assert_eq!(row.due, Some(NOW + held * 5_000));
        world.worked += AGE_MAX;
        world.wake(500);
    }
    assert_eq!(world.counts().dead_letters, 0);
    // The probation is over and the plugin stays.
    world.plugin.each(|decider| decider.hold = None);
    world.wake(500);
    assert_eq!(codes(&world), coded(&[(0, "plugin-trap", 1)]));
    assert_eq!(world.counts().applied, 1);
}

#[test]
fn a_deadline_on_probation_is_tried_again_first_and_held_then() {
    let mut world = on_probation();
    world.batch(&[message(0, 1, Asked::Slow)]);
    for _ in 0..RETRIES_MAX {
        assert_eq!(world.rows()[0].why, Why::Deadline);
        world.wake(500);
    }
    let row = &world.rows()[0];
    assert_eq!((row.why, row.attempt, row.tries), (Why::Held, 0, 0));
}

#[test]
fn what_waits_grows_older_by_the_time_that_its_partition_works_only() {
    for (worked, is_given_up) in [(0, false), (AGE_MAX, false), (AGE_MAX + 1, true)] {
        let mut world = World::solo();
        world.worked = 1_000;
        world.batch(&[message(0, 1, Asked::Defer)]);
        world.now += 365 * 86_400_000;
        world.worked += worked;
        world.wake(500);
        let code = "task-missing";
        let expected: &[_] = if is_given_up { &[(0, code, 2)] } else { &[] };
        assert_eq!(codes(&world), coded(expected), "{worked} ms of work");
        let letters = world.letters();
        let reason = letters.first().map(|letter| letter.reason.as_str());
        let said = "it waited for 60001 ms and 2 decisions: not yet";
        assert_eq!(reason, is_given_up.then_some(said));
    }
}

#[test]
fn a_row_from_before_the_clock_counts_from_its_next_decision_on() {
    let mut world = World::solo();
    world.batch(&[message(0, 1, Asked::Defer)]);
    world.change_first(|row| row.since_worked = None);
    world.worked = 10 * AGE_MAX;
    world.wake(500);
    assert_eq!(world.rows()[0].since_worked, Some(10 * AGE_MAX));
    world.worked += AGE_MAX + 1;
    world.wake(500);
    assert_eq!(codes(&world), coded(&[(0, "task-missing", 3)]));
}

#[test]
fn only_what_waited_for_its_task_says_that_the_task_is_missing() {
    let mut world = World::solo();
    world.batch(&[
        message(0, 1, Asked::Create),
        message(1, 1, Asked::Defer),
        message(2, 2, Asked::Defer),
    ]);
    while !world.rows().is_empty() {
        world.wake(500);
    }
    let attempts = ATTEMPTS_MAX + 1;
    let expected = [
        (1, "deferred-too-long", attempts),
        (2, "task-missing", attempts),
    ];
    assert_eq!(codes(&world), coded(&expected));
}

/// A stored message of task 1 that asks to be deferred.
fn deferring(offset: i64) -> Vec<u8> {
    let message = message(offset, 1, Asked::Defer);
    taskhost_core::cause::Stored::Message(taskhost_core::record::Message::clone(&message)).encode()
}
