//! Hosts that freeze beyond their session and wake, and hosts that die with transactions open.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use taskhost_tests::{Tail, World, now_ms, soon, soon_within, steady};

use crate::crash::load::load;
use crate::crash::outcome::{Outcome, assert_order};
use crate::crash::{an_hour_ago, undisturbed, wait_settled};
use crate::fleet::{EVERY, SESSION_MS, host, named, noting, observe, owners, wait_shared, world};

/// How long an open Kafka transaction of the dead may hold up anybody after the claim.
const HELD_UP: Duration = Duration::from_secs(3);

/// After that, Postgres ends a transaction that stands still: a setting of the host's sessions.
const POSTGRES_IDLE: Duration = Duration::from_secs(10);

/// Messages at a time while a host is waited for: 500 of them last longer than a rebalance.
const FEW: usize = 5;

/// A host freezes at its third turn of a failpoint, loses everything, and wakes.
fn frozen_at(failpoint: &str, protocol: &str, seed: u64) {
    let load = load(seed, 1_500, an_hour_ago());
    let expected = undisturbed(&load);

    let world = noting(World::with_partitions(4), 1500, 300);
    let member = |name: &str| {
        named(crate::crash::host(&world), name, protocol).env("KAFKA_TRANSACTION_TIMEOUT", "60000")
    };
    let mut parts = load.chunks(load.len().div_ceil(3));
    let mut more = || world.send_all(parts.next().expect("a third"));
    let frozen = member("frozen")
        .failpoint(&format!("{failpoint}:3=stop"))
        .spawn();
    more();
    frozen.wait_frozen();
    let before = owners(&world);
    let other = member("other").start();
    more();
    soon_within(
        Duration::from_secs(60),
        "the other host does it all",
        || world.is_caught_up().then_some(()),
    );
    assert!(before.values().any(|owner| owner == "frozen"));
    let published = world.ends("task-events");

    frozen.signal(Signal::SIGCONT);
    // It learns of its loss and is given partitions again, without a person's help.
    let taken_back = || world.steps().into_iter().rev().find(|step| step.claim);
    soon("it rejoins", || {
        (taken_back()?.writer == "taskhost frozen").then_some(())
    });
    // So far nothing was sent that it could have decided: what it had open must not have come through.
    let records = |ends: &[i64]| -> i64 { ends.iter().sum() };
    println!(
        "{failpoint}, {protocol}: the ends of task-events grew by {} (abort markers)",
        records(&world.ends("task-events")) - records(&published)
    );
    // Little by little: that claim may be one that it was making when it froze, and the group gives it partitions later.
    let mut rest = parts.next().expect("a third").chunks(FEW);
    soon("both work", || {
        let owners = owners(&world);
        let has = |name: &str| owners.values().any(|owner| owner == name);
        if has("frozen") && has("other") {
            return Some(());
        }
        world.send_all(rest.next()?);
        None
    });
    rest.for_each(|few| world.send_all(few));
    wait_settled(&world);
    assert_eq!(frozen.get("/readyz").status, 200);
    frozen.stop();
    other.stop();
    Outcome::of(&world).assert_is(&expected);
    assert_order(&world);
    world.assert_only_owners_wrote();
}

#[test]
fn a_host_frozen_before_it_calls_postgres_commits_nothing_when_it_wakes() {
    frozen_at("before-postgres-commit", "classic", 40_000);
}

#[test]
fn a_host_frozen_with_messages_open_in_kafka_publishes_nothing_when_it_wakes() {
    frozen_at("publish-inside-transaction", "classic", 40_001);
}

#[test]
fn a_host_frozen_with_offsets_open_in_kafka_publishes_nothing_when_it_wakes() {
    frozen_at("publish-before-commit", "classic", 40_002);
}

#[test]
fn a_host_frozen_before_it_calls_postgres_commits_nothing_under_the_newer_protocol() {
    frozen_at("before-postgres-commit", "consumer", 40_003);
}

#[test]
fn a_host_frozen_with_messages_open_publishes_nothing_under_the_newer_protocol() {
    frozen_at("publish-inside-transaction", "consumer", 40_004);
}

#[test]
fn a_host_frozen_with_offsets_open_publishes_nothing_under_the_newer_protocol() {
    frozen_at("publish-before-commit", "consumer", 40_005);
}

#[test]
fn a_frozen_hosts_open_batch_holds_up_its_own_partition_only_and_only_until_postgres_ends_it() {
    const PARTITIONS: i32 = 4;
    let world = world(PARTITIONS);
    // Behind a pooler a transaction stays open around the call; without one a frozen host holds nothing.
    let frozen = host(&world, "frozen", "classic")
        .env("TASKHOST_DATABASE_PREPARED_STATEMENTS", "false")
        .failpoint("before-postgres-commit:5=stop")
        .start();
    // Only the first partition has anything to commit, so the batch that stays open is its own.
    steady(&world, 1, EVERY, || frozen.wait_frozen());
    let began = now_ms();
    let other = host(&world, "other", "classic").start();
    steady(&world, PARTITIONS, EVERY, || {
        wait_shared(&world, 4, &["other"])
    });
    let claimed = |partition: i32| {
        let steps = world.steps();
        let step = steps.iter().find(|step| {
            step.claim && step.partition == partition && step.writer.ends_with("other")
        });
        step.expect("its claim").at_ms - began
    };
    let waits: Vec<i64> = (0..PARTITIONS).map(claimed).collect();
    println!("claimed after the freeze, in ms: {waits:?}");
    let in_time = |limit: Duration| i64::try_from(limit.as_millis()).expect("a short time");
    assert!(
        waits[0] <= in_time(POSTGRES_IDLE) + 2000,
        "its claim ends soon after Postgres ended the session: {waits:?}"
    );
    // The others didn't wait for it: they were decided long before.
    assert!(
        waits[1..]
            .iter()
            .all(|wait| *wait < i64::from(SESSION_MS) + 4000 && *wait < waits[0]),
        "{waits:?}"
    );
    frozen.signal(Signal::SIGCONT);
    steady(&world, PARTITIONS, EVERY, || {
        wait_shared(&world, 4, &["frozen", "other"])
    });
    world.wait_caught_up();
    frozen.stop();
    other.stop();
    crate::laws::check(&world);
    world.assert_only_owners_wrote();
}

/// The longest time after the claim in which a reader saw nothing: of any partition of the topic, and of what came
/// through any partition of the source.
fn held_up(tail: &Tail, claim: Instant, until: Instant, sources: i32) -> Duration {
    let topic: Vec<i32> = tail.seen().iter().map(|seen| seen.partition).collect();
    let by_target = topic
        .iter()
        .map(|partition| tail.longest_gap(claim, until, |seen| seen.partition == *partition));
    let by_source = (0..sources).map(|source| {
        let own = format!("p{source}-");
        tail.longest_gap(claim, until, |seen| seen.key.starts_with(&own))
    });
    by_target
        .chain(by_source)
        .max()
        .expect("something was seen")
}

/// When that host first claimed a partition after a moment.
fn claim_after(world: &World, name: &str, after_ms: i64) -> Instant {
    let claim_ms = soon("the claim", || {
        let steps = world.steps();
        let mut claims = steps
            .iter()
            .filter(|step| step.claim && step.at_ms >= after_ms);
        Some(claims.find(|step| step.writer.ends_with(name))?.at_ms)
    });
    let ago = Duration::from_millis(u64::try_from(now_ms() - claim_ms).expect("a past time"));
    Instant::now()
        .checked_sub(ago)
        .expect("a time since the machine's start")
}

/// A host dies at a failpoint beside one that lives. Nobody waits for the transaction's timeout.
fn dies_at(failpoint: &str, protocol: &str) {
    const PARTITIONS: i32 = 4;
    let world = world(PARTITIONS);
    let member =
        |name: &str| host(&world, name, protocol).env("KAFKA_TRANSACTION_TIMEOUT", "60000");
    let living = member("living").start();
    let tail = world.tail("task-events");
    steady(&world, PARTITIONS, EVERY, || {
        wait_shared(&world, 4, &["living"]);
        let dying = member("dying")
            .failpoint(&format!("{failpoint}:20"))
            .spawn();
        let status = dying.wait_exit();
        assert_eq!(status.code(), None, "it was killed: {status}");
        let claim = claim_after(&world, "living", now_ms());
        wait_shared(&world, 4, &["living"]);
        observe(HELD_UP + Duration::from_secs(2));
        let held = held_up(&tail, claim, Instant::now(), PARTITIONS);
        println!("{failpoint}, {protocol}: held up for {held:?} after the claim");
        assert!(held <= HELD_UP, "{held:?}");
    });
    world.wait_caught_up();
    living.stop();
    crate::laws::check(&world);
    world.assert_only_owners_wrote();
}

#[test]
fn messages_that_a_dead_host_left_open_hold_up_nobody() {
    dies_at("publish-inside-transaction", "classic");
}

#[test]
fn offsets_that_a_dead_host_left_open_hold_up_nobody() {
    dies_at("publish-before-commit", "classic");
}

#[test]
fn offsets_that_a_dead_host_left_open_hold_up_nobody_under_the_newer_protocol() {
    dies_at("publish-before-commit", "consumer");
}

#[test]
fn transactions_of_the_last_three_owners_hold_up_nobody() {
    const PARTITIONS: i32 = 4;
    let world = world(PARTITIONS);
    let member =
        |name: &str| host(&world, name, "classic").env("KAFKA_TRANSACTION_TIMEOUT", "60000");
    let first = member("first")
        .failpoint("publish-before-commit:20")
        .start();
    let tail = world.tail("task-events");
    steady(&world, PARTITIONS, EVERY, || {
        let _ = first.wait_exit();
        // It dies before it can fence the first.
        let second = member("second").failpoint("recovery-after-claim").spawn();
        let _ = second.wait_exit();
        // One that died with a transaction open before any of them. No failpoint makes that of two hosts at a time.
        let ghost = world.open_transaction(&format!("{}-ghost", world.group()), "task-events");
        world.execute(&format!(
            "UPDATE progress SET owners = owners || '{}-ghost'::text",
            world.group()
        ));
        let third = member("third").start();
        let claim = claim_after(&world, "third", 0);
        wait_shared(&world, 4, &["third"]);
        observe(HELD_UP + Duration::from_secs(2));
        let held = held_up(&tail, claim, Instant::now(), PARTITIONS);
        println!("three owners: held up for {held:?} after the claim");
        assert!(held <= HELD_UP, "{held:?}");
        drop(ghost);
        third.stop();
    });
    let last = member("last").start();
    world.wait_caught_up();
    last.stop();
    crate::laws::check(&world);
    let left_open = world.read("task-events");
    assert!(left_open.iter().all(|record| !record.key_text().is_empty()));
}

#[test]
fn a_living_host_whose_producer_is_fenced_makes_a_new_one_and_loses_nothing() {
    const PARTITIONS: i32 = 4;
    let world = world(PARTITIONS);
    let living = host(&world, "living", "classic").start();
    let sent = steady(&world, PARTITIONS, EVERY, || {
        wait_shared(&world, 4, &["living"]);
        for turn in 1..=5 {
            let owners = world.ask("SELECT DISTINCT owners[1] FROM progress");
            let [Some(id)] = &owners[..] else {
                panic!("one owner: {owners:?}");
            };
            drop(world.take_transactional_id(id));
            soon("the producer is made anew", || {
                let log = living.log();
                (log.matches("the publisher is connected").count() > turn).then_some(())
            });
            let before = world.ends("task-events");
            soon("it publishes again", || {
                (world.ends("task-events") > before).then_some(())
            });
        }
    })
    .sent;
    world.wait_caught_up();
    assert_eq!(living.get("/readyz").status, 200);
    living.stop();
    assert_eq!(world.tasks().len(), sent * 4);
    crate::laws::check(&world);
}
