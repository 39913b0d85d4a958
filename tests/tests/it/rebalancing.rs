//! Hosts that join, leave and die while messages come in: what stays goes on, what moves takes effect once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use taskhost_tests::{Host, HostBuilder, World, now_ms, soon, steady};

use crate::crash::load::load;
use crate::crash::outcome::{Outcome, assert_order};
use crate::crash::{an_hour_ago, consumed, undisturbed, wait_settled};
use crate::fleet::{
    EVERY, HEARTBEAT_MS, host, longest, named, noting, observe, owners, shown, wait_shared, world,
};

/// What a kept partition may stand still: the promise.
const KEPT_PAUSE_MS: i64 = 1000;

/// Partitions that nobody has claimed since.
fn kept(world: &World, partitions: i32, since_ms: i64) -> Vec<i32> {
    let steps = world.steps();
    let moved: BTreeSet<i32> = steps
        .iter()
        .filter(|step| step.claim && step.at_ms >= since_ms)
        .map(|step| step.partition)
        .collect();
    (0..partitions)
        .filter(|partition| !moved.contains(partition))
        .collect()
}

fn a_host_joins_and_leaves(protocol: &str) {
    const PARTITIONS: i32 = 4;
    let world = world(PARTITIONS);
    let first = host(&world, "first", protocol).start();
    let tail = world.tail("task-events");
    steady(&world, PARTITIONS, EVERY, || {
        wait_shared(&world, 4, &["first"]);
        let quiet = (now_ms(), Instant::now());
        observe(Duration::from_secs(3));
        let began = (now_ms(), Instant::now());
        let second = host(&world, "second", protocol).start();
        wait_shared(&world, 4, &["first", "second"]);
        let stayed = kept(&world, PARTITIONS, began.0);
        second.stop();
        wait_shared(&world, 4, &["first"]);
        let ended = (now_ms(), Instant::now());

        assert!(!stayed.is_empty(), "the first host kept something");
        // Others use the machine: what stands still without any rebalance is not the rebalance's.
        let noise = longest(&world.pauses(quiet.0, began.0), |_| true);
        let pauses = world.pauses(began.0, ended.0);
        let longest = longest(&pauses, |partition| stayed.contains(&partition));
        println!("{protocol}: {}; {stayed:?} stayed", shown(&pauses));
        println!("longest pause of a kept partition {longest} ms; undisturbed {noise} ms");
        for partition in &stayed {
            let own = format!("p{partition}-");
            let gap = tail.longest_gap(began.1, ended.1, |seen| seen.key.starts_with(&own));
            let before = tail.longest_gap(quiet.1, began.1, |seen| seen.key.starts_with(&own));
            println!("  readers waited {gap:?} for {partition}; undisturbed {before:?}");
        }
        assert!(longest < KEPT_PAUSE_MS + noise, "{longest} ms");
    });
    world.wait_caught_up();
    first.stop();
    crate::laws::check(&world);
    world.assert_only_owners_wrote();
}

#[test]
fn a_kept_partition_goes_on_while_another_host_joins_and_leaves() {
    a_host_joins_and_leaves("classic");
}

#[test]
fn a_kept_partition_goes_on_under_the_newer_protocol() {
    a_host_joins_and_leaves("consumer");
}

/// Each step takes place in the middle of a part of the load.
fn hosts_come_and_go(protocol: &str, seed: u64) {
    let load = load(seed, 6_000, an_hour_ago());
    let expected = undisturbed(&load);

    let world = noting(World::with_partitions(4), 1500, 300);
    let member = |name: &str| -> HostBuilder { named(crate::crash::host(&world), name, protocol) };
    let mut parts = load.chunks(load.len().div_ceil(7));
    let mut more = || {
        let before = consumed(&world);
        world.send_all(parts.next().expect("a part for each step"));
        soon("the group is at work", || {
            (consumed(&world) > before + 100).then_some(())
        });
    };
    let began = Instant::now();
    let mut first = member("first").start();
    more();
    let second = member("second").start();
    more();
    let third = member("third").spawn();
    more();
    second.terminate();
    more();
    first.kill();
    more();
    let fourth = member("fourth").start();
    third.kill();
    more();
    first.restart();
    more();
    wait_settled(&world);
    println!(
        "{protocol}: {} messages in {:?}",
        load.len(),
        began.elapsed()
    );
    first.stop();
    fourth.stop();
    Outcome::of(&world).assert_is(&expected);
    assert_order(&world);
    world.assert_only_owners_wrote();
    let claims = world.steps().iter().filter(|step| step.claim).count();
    assert!(claims > 8, "partitions moved: {claims} claims");
}

#[test]
fn hosts_that_join_leave_and_die_under_load_change_nothing_of_what_comes_out() {
    hosts_come_and_go("classic", 30_000);
}

#[test]
fn hosts_that_come_and_go_under_the_newer_protocol_change_nothing_of_what_comes_out() {
    hosts_come_and_go("consumer", 30_001);
}

/// Nobody stopped a partition, and nobody gave up on one.
fn assert_no_halt(host: &Host) {
    let log = host.log();
    assert!(!log.contains("the partition stops"), "{log}");
}

#[test]
fn one_to_three_hosts_share_twelve_partitions_and_a_rolling_restart_is_barely_noticed() {
    const PARTITIONS: i32 = 12;
    const NAMES: [&str; 3] = ["first", "second", "third"];
    let world = world(PARTITIONS);
    let mut hosts = vec![host(&world, NAMES[0], "classic").start()];
    let every = EVERY.saturating_mul(2);
    let sent = steady(&world, PARTITIONS, every, || {
        wait_shared(&world, 12, &NAMES[..1]);
        for members in 2..=NAMES.len() {
            hosts.push(host(&world, NAMES[members - 1], "classic").start());
            wait_shared(&world, 12, &NAMES[..members]);
        }
        let quiet = now_ms();
        observe(Duration::from_secs(3));
        let began = now_ms();
        for host in &mut hosts {
            host.terminate();
            host.restart();
        }
        wait_shared(&world, 12, &NAMES);
        let ended = now_ms();

        let noise = longest(&world.pauses(quiet, began), |_| true);
        let pauses = world.pauses(began, ended);
        println!("rolling restart: {} ms in all", ended - began);
        println!("{}", shown(&pauses));
        println!("undisturbed {noise} ms");
        let most = i64::from(2 * HEARTBEAT_MS) + 1000;
        let longest = longest(&pauses, |_| true);
        assert!(longest <= most + noise, "{longest} ms, {most} ms allowed");
    })
    .sent;
    world.wait_caught_up();
    assert_eq!(owners(&world).len(), 12, "every partition is owned");
    hosts.iter().for_each(assert_no_halt);
    hosts.into_iter().for_each(Host::stop);
    assert_eq!(world.tasks().len(), sent * 12, "each message made its task");
    crate::laws::check(&world);
    world.assert_only_owners_wrote();
}
