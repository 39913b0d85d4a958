//! A broken rule on three hosts under load, without a version to roll back to, and the repaired one: what the breakers held
//! is decided by it, once, and nothing is a dead letter.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use taskhost_tests::{Host, Record, World, soon};

use crate::fleet_activation::{activate, file};
use crate::{laws, swap};

/// Longer than any test waits, also a small random part of it: no breaker closes by trying.
const NEVER_MS: &str = "86400000";

/// Messages that are sent at a time.
const CHUNK: usize = 500;

/// Without probation, so nothing is rolled back; a single fault opens a breaker, so no other one comes before it.
fn host(world: &World) -> Host {
    swap::host(world)
        .env("TASKHOST_PLUGINS_WATCH", "false")
        .env("TASKHOST_PROBATION", "0")
        .env("TASKHOST_BREAKER_MINIMUM", "1")
        .env("TASKHOST_BREAKER_OPEN_TIME", NEVER_MS)
        .env("TASKHOST_BREAKER_OPEN_TIME_MAX", NEVER_MS)
        .start()
}

fn breaker(host: &Host) -> (String, i64) {
    let all = host.get("/api/breakers").json();
    let one = &all["breakers"][0];
    (
        one["state"].as_str().unwrap_or_default().to_owned(),
        one["activation"].as_i64().unwrap_or_default(),
    )
}

/// The states of the host's partitions.
fn partitions(host: &Host) -> Vec<String> {
    let health = host.get("/api/health/detailed").json();
    let list = health["details"]["partitions"]["partitions"].as_array();
    let state = |one: &Value| one["state"].as_str().unwrap_or_default().to_owned();
    list.map_or_else(Vec::new, |list| list.iter().map(state).collect())
}

/// How far each partition is: the last batch and the next record.
fn decided(world: &World) -> Vec<(i64, Option<i64>)> {
    let progress = world.progress();
    let place = |row: &taskhost_tests::ProgressRow| (row.batch, row.next_offset);
    progress.iter().map(place).collect()
}

#[test]
fn three_hosts_under_load_hold_a_broken_rule_and_drain_by_the_repaired_one_with_no_dead_letter() {
    let world = swap::world();
    let hosts = [host(&world), host(&world), host(&world)];
    soon("each host has partitions", || {
        let ready = hosts.iter().all(|host| !partitions(host).is_empty());
        ready.then_some(())
    });
    let (done, mut sent) = (AtomicBool::new(false), 0);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                world.send_all(&swap::messages(sent));
                sent += CHUNK;
            }
            sent
        });
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            swap::wait_decided(&world, "1.0.0");
            let broken = activate(&world, &["--file", &file("guest_swap_broken")]);
            assert_eq!(broken["activation"], 2);
            soon("every host's breaker is open", || {
                let open = hosts
                    .iter()
                    .all(|host| breaker(host) == ("open".to_owned(), 2));
                open.then_some(())
            });
            soon("every partition pauses", || {
                let all: Vec<String> = hosts.iter().flat_map(partitions).collect();
                (all.len() == 4 && all.iter().all(|state| state == "paused")).then_some(())
            });
            // From here on nothing moves, however much comes.
            let held = decided(&world);
            let ends: i64 = world.ends("swap").iter().sum();
            soon("more has come", || {
                let now: i64 = world.ends("swap").iter().sum();
                (now > ends + 2000).then_some(())
            });
            assert_eq!(decided(&world), held);
            assert_eq!(world.dead_letters(), []);
            assert_eq!(world.waiting(), []);
            let repaired = activate(&world, &["--file", &file("guest_swap_v2")]);
            assert_eq!(repaired["activation"], 3);
            soon("every host's breaker is closed again", || {
                let closed = hosts.iter().all(|host| breaker(host).0 == "closed");
                closed.then_some(())
            });
        }));
        done.store(true, Ordering::Relaxed);
        sent = sender.join().expect("the sender");
        watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    world.wait_caught_up();

    // Each message once, in the order of its partition: by the first rule, by what the broken one could, by the repaired one.
    let mut events = world.all_events();
    events.sort_by_key(|event| (event.cause_partition, event.cause_offset));
    let tasks: HashSet<&str> = events.iter().map(|event| event.task_id.as_str()).collect();
    assert_eq!((events.len(), tasks.len()), (sent, sent), "each once");
    let mut versions: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for event in &events {
        let could = event.task_id.ends_with(['0', '5']);
        assert!(event.plugin_version != "9.0.0" || could, "{event:?}");
        let of_partition = versions.entry(event.cause_partition).or_default();
        of_partition.push(&event.plugin_version);
    }
    assert_eq!(versions.len(), 4);
    for (partition, mut versions) in versions {
        versions.dedup();
        assert!(
            versions == ["1.0.0", "2.0.0"] || versions == ["1.0.0", "9.0.0", "2.0.0"],
            "partition {partition}: {versions:?}"
        );
    }
    assert_eq!(world.dead_letters(), []);
    assert_eq!(world.waiting(), []);
    laws::check(&world);
    hosts.into_iter().for_each(Host::stop);
    check_time_line(&world);
}

/// Each host once: the broken rule, its breaker open, the repaired rule, messages tried, closed. Nothing else. The hosts of
/// a machine have one name, so the n-th of a step is held against the n-th of the one before.
fn check_time_line(world: &World) {
    let records = world.read("taskhost-events");
    let all = records.iter().map(Record::json);
    let told: Vec<Value> = all
        .filter(|event| event["route"] == "swap" && event["activation"] != "1")
        .collect();
    let steps = [
        ("plugin.activated", "2", Value::Null),
        ("breaker.opened", "2", json!("faults")),
        ("breaker.half-open", "3", json!("activation")),
        ("breaker.closed", "3", json!("probe")),
    ];
    let times = |kind: &str, activation: &str, why: &Value| {
        let of = told.iter().filter(|event| {
            event["kind"] == kind && event["activation"] == activation && event["why"] == *why
        });
        let at = |event: &Value| event["at"].as_str().expect("a time").to_owned();
        let mut times: Vec<String> = of.map(at).collect();
        times.sort_unstable();
        assert_eq!(times.len(), 3, "{kind} of {activation}: {told:#?}");
        times
    };
    let line = steps.map(|(kind, activation, why)| times(kind, activation, &why));
    for (before, after) in line.iter().zip(&line[1..]) {
        for (before, after) in before.iter().zip(after) {
            assert!(before <= after, "{before} before {after}: {told:#?}");
        }
    }
    let repaired = times("plugin.activated", "3", &Value::Null);
    assert_eq!(told.len(), 15, "nothing else, no rollback: {told:#?}");
    // No host tried anything before all of them had stopped and the repaired rule was there.
    let [_, opened, tried, closed] = line;
    assert!(opened[2] <= repaired[0], "{told:#?}");
    assert!(repaired[0] <= tried[0], "{told:#?}");
    assert!(repaired[2] <= closed[2], "{told:#?}");
}
