//! A version that fails on probation: the one before takes over by itself, once, and decides what the new one failed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use taskhost_tests::{Host, HostBuilder, World, soon};

use crate::fleet_activation::{activate, file, history, thing};
use crate::swap;

/// Longer than any test waits, also a small random part of it.
const NEVER_MS: &str = "86400000";

/// A shared lock of the route, as a batch holds it: no activation gets past it.
const HOLD_ROUTE: &str = "SELECT pg_advisory_xact_lock_shared(\
    ('x' || left(encode(sha256('taskhost/activations/swap'::bytea), 'hex'), 16))::bit(64)::bigint)";

fn host(world: &World) -> HostBuilder {
    swap::host(world)
        .env("TASKHOST_PLUGINS_WATCH", "false")
        .env("TASKHOST_BREAKER_OPEN_TIME", NEVER_MS)
        .env("TASKHOST_BREAKER_OPEN_TIME_MAX", NEVER_MS)
}

fn state(host: &Host) -> String {
    let all = host.get("/api/breakers").json();
    all["breakers"][0]["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn route_events(world: &World) -> Vec<Value> {
    let records = world.read("taskhost-events");
    let all = records.iter().map(taskhost_tests::Record::json);
    let mut all: Vec<Value> = all.filter(|event| event["route"] == "swap").collect();
    all.sort_by_key(|event| event["at"].as_str().unwrap_or_default().to_owned());
    all
}

fn of<'a>(events: &'a [Value], kind: &str, activation: &str) -> Vec<&'a Value> {
    let wanted = |event: &&Value| event["kind"] == kind && event["activation"] == activation;
    events.iter().filter(wanted).collect()
}

fn at(event: &Value) -> &str {
    event["at"].as_str().expect("a time")
}

/// Sends until the version before decides again everywhere, and says how many.
fn send_until_rolled_back(world: &World, hosts: &[Host]) -> usize {
    // Every host is to see it fail before one can roll it back.
    let lock = world.hold(HOLD_ROUTE);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 500;
            while !done.load(Ordering::Relaxed) {
                world.send_all(&swap::messages(sent));
                sent += 500;
            }
            sent
        });
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            soon("every host's breaker is open", || {
                hosts.iter().all(|host| state(host) == "open").then_some(())
            });
            assert_eq!(world.dead_letters(), []);
            drop(lock);
            soon("the version before decides again", || {
                hosts
                    .iter()
                    .all(|host| swap::version(host) == "1.0.0" && state(host) == "closed")
                    .then_some(())
            });
        }));
        done.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("the sender");
        watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sent
    })
}

/// One rollback, and everything is decided once: by the version before, but for what the broken one could.
fn check_history(world: &World, expected: usize) {
    let all = history(&swap::host(world), "swap");
    let numbers: Vec<&Value> = all.iter().map(|one| &one["activation"]).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(
        (&all[0]["rollbackOf"], &all[0]["probation"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(
        (&all[1]["rollbackOf"], &all[1]["probation"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(all[0]["digest"], all[2]["digest"]);
    assert!(
        all[0]["by"]
            .as_str()
            .is_some_and(|by| by.starts_with("host ")),
        "{}",
        all[0]
    );
    let reason = all[0]["reason"].as_str().expect("a reason");
    for part in [
        "rollback of activation 2",
        "decisions were faults",
        "plugin-trap",
    ] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    let events = world.all_events();
    let tasks: HashSet<&str> = events.iter().map(|event| event.task_id.as_str()).collect();
    assert_eq!(
        (events.len(), tasks.len()),
        (expected, expected),
        "each once"
    );
    for event in &events {
        let could = event.task_id.ends_with(['0', '5']);
        let by_broken = event.plugin_version == "9.0.0";
        assert!(!by_broken || could, "{event:?}");
        if event.task_id.starts_with("few-") {
            assert_eq!(by_broken, could, "{event:?}");
        }
    }
    assert_eq!(world.dead_letters(), []);
}

/// The time line, as the hosts told it.
fn check_time_line(world: &World, broken: &Value) {
    let told = route_events(world);
    let opened = of(&told, "breaker.opened", "2");
    assert_eq!(opened.len(), 3, "each host's once: {told:#?}");
    assert!(opened.iter().all(|event| event["why"] == "faults"));
    let rolled_back: Vec<&Value> = told
        .iter()
        .filter(|event| event["kind"] == "plugin.rolled-back")
        .collect();
    let [rolled_back] = rolled_back[..] else {
        panic!("one rollback: {told:#?}");
    };
    assert_eq!(
        (&rolled_back["activation"], &rolled_back["rolledBack"]),
        (&json!("3"), &json!("2"))
    );
    assert_eq!(rolled_back["rolledBackDigest"], broken["digest"]);
    assert!(
        rolled_back["reason"]
            .as_str()
            .is_some_and(|why| why.contains("plugin-trap"))
    );
    let activated = of(&told, "plugin.activated", "3");
    assert_eq!(activated.len(), 3, "on each host");
    for kind in ["breaker.half-open", "breaker.closed"] {
        assert_eq!(
            of(&told, kind, "3").len(),
            3,
            "{kind} on each host: {told:#?}"
        );
    }
    for event in &opened {
        assert!(at(event) <= at(rolled_back), "{event} before {rolled_back}");
    }
    for event in of(&told, "breaker.closed", "3") {
        let opened_before = opened.iter().any(|opened| at(opened) <= at(event));
        assert!(opened_before, "{event}");
    }
    let began = of(&told, "plugin.activated", "2");
    assert!(
        opened
            .iter()
            .all(|event| began.iter().any(|began| at(began) <= at(event)))
    );
}

#[test]
fn three_hosts_under_load_roll_a_broken_rule_back_once_and_the_version_before_decides_all() {
    let world = swap::world();
    let hosts = [
        host(&world).start(),
        host(&world).start(),
        host(&world).start(),
    ];
    soon("each host has partitions", || {
        let shown = |host: &Host| {
            let health = host.get("/api/health/detailed").json();
            health["details"]["partitions"]["partitions"]
                .as_array()
                .map_or(0, Vec::len)
        };
        hosts.iter().all(|host| shown(host) > 0).then_some(())
    });
    world.send_all(&swap::messages(0));
    world.wait_caught_up();
    let broken = activate(&world, &["--file", &file("guest_swap_broken")]);
    assert_eq!(broken["activation"], 2);

    // A few messages first: too few to say anything, so those at which it fails are held.
    let few: Vec<String> = (0..10).map(|n| format!("few-{n}")).collect();
    world.send_all(&few.iter().map(|id| thing(id)).collect::<Vec<_>>());
    world.wait_caught_up();
    let held = world.waiting();
    assert_eq!(held.len(), 8, "{held:#?}");
    assert_eq!(world.dead_letters(), []);

    let sent = send_until_rolled_back(&world, &hosts);
    world.wait_caught_up();
    soon("what was held is decided", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();

    check_history(&world, sent + few.len());
    let rollbacks =
        |host: &Host| host.count("taskhost_plugin_rollbacks_total", &[("route", "swap")]);
    assert_eq!(hosts.iter().map(rollbacks).sum::<usize>(), 1);
    hosts.into_iter().for_each(Host::stop);

    check_time_line(&world, &broken);
}

#[test]
fn what_was_rolled_back_is_not_activated_again_unless_a_person_forces_it() {
    let world = swap::world();
    let host = host(&world)
        .env("TASKHOST_PLUGINS_WATCH", "true")
        .env("TASKHOST_BREAKER_MINIMUM", "1")
        .start();
    // By its file, as it was shipped.
    world.install("guest_swap_broken", "swap");
    soon("it is activated", || {
        (swap::version(&host) == "9.0.0").then_some(())
    });
    world.send(thing("a-1"));
    soon("the version before decides again", || {
        (swap::version(&host) == "1.0.0").then_some(())
    });
    world.wait_caught_up();
    soon("it decided", || world.find_task("a-1"));
    assert_eq!(world.dead_letters(), []);
    let digest = history(&swap::host(&world), "swap")[1]["digest"].clone();
    let digest = digest.as_str().expect("a digest");

    // Neither a command nor the file brings it back, and both say why and since when.
    let commands = swap::host(&world);
    let broken = file("guest_swap_broken");
    for arguments in [
        &["--file", &*broken][..],
        &["--previous"],
        &["--digest", digest],
    ] {
        let all = [&["plugin", "activate", "swap"], arguments].concat();
        let refused = commands.run(&all);
        assert_eq!(refused.code, Some(1), "{arguments:?}: {}", refused.stdout);
        for part in [
            "was rolled back on this route at 20",
            "(activation 2)",
            "decisions were faults",
            "--force",
        ] {
            assert!(
                refused.stderr.contains(part),
                "{part} in {}",
                refused.stderr
            );
        }
    }
    world.install("guest_swap_broken", "swap");
    let refused = soon("the file is refused", || match swap::refusals(&host) {
        (1.., Some(reason)) => Some(reason),
        _ => None,
    });
    assert!(refused.contains("was rolled back"), "{refused}");
    soon("the list has it", || {
        let list = host.get("/api/plugins").json();
        (list["routes"][0]["rolledBack"][0]["digest"] == *digest).then_some(())
    });
    let url = format!("http://{}", host.address());
    let listed = commands.run(&["plugin", "list", "--url", &url]).ok();
    assert!(listed.contains("rolled back"), "{listed}");

    // Forced, it decides without a probation: what it fails waits behind its breaker, and no rollback follows.
    let forced = activate(&world, &["--previous", "--force"]);
    assert_eq!(forced["activation"], 4);
    soon("the host follows", || {
        (swap::version(&host) == "9.0.0").then_some(())
    });
    world.send(thing("a-2"));
    soon("its breaker opens", || {
        (state(&host) == "open").then_some(())
    });
    let numbers = || world.ask("SELECT max(number)::text FROM activations");
    assert_eq!(numbers(), [Some("4".to_owned())]);
    assert!(world.find_task("a-2").is_none());
    activate(&world, &["--file", &file("guest_swap_v2")]);
    soon("a fixed one decides", || world.find_task("a-2"));
    assert_eq!(world.dead_letters(), []);
    assert_eq!(numbers(), [Some("5".to_owned())]);
    host.stop();
}

#[test]
fn what_is_held_is_a_dead_letter_once_the_probation_is_over_and_its_tasks_later_messages_wait_behind_it()
 {
    let world = swap::world();
    let host = host(&world)
        .env("TASKHOST_BREAKER_MINIMUM", "0")
        .env("TASKHOST_PROBATION", "8000")
        .start();
    activate(&world, &["--file", &file("guest_swap_broken")]);
    soon("the host follows", || {
        (swap::version(&host) == "9.0.0").then_some(())
    });
    world.send_all(&[thing("a-1"), thing("a-1"), thing("a-5")]);
    world.wait_caught_up();
    let waiting = world.waiting();
    assert_eq!(waiting.len(), 2, "in order: {waiting:#?}");
    assert!(
        waiting
            .iter()
            .all(|row| row.task_id == "a-1" && row.attempt == 0)
    );
    assert!(world.find_task("a-5").is_some(), "other tasks go on");
    assert_eq!(world.dead_letters(), []);
    soon("the probation is over", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 2, "{letters:#?}");
    assert!(letters.iter().all(|letter| letter.code == "plugin-trap"));
    host.stop();
}

#[test]
fn too_few_messages_for_a_breaker_are_dead_letters_after_the_probation_and_nothing_is_rolled_back()
{
    let world = swap::world();
    let host = host(&world).env("TASKHOST_PROBATION", "6000").start();
    activate(&world, &["--file", &file("guest_swap_broken")]);
    soon("the host follows", || {
        (swap::version(&host) == "9.0.0").then_some(())
    });
    // All of them fail, and that is less than says anything.
    let few: Vec<_> = (1..=4).map(|n| thing(&format!("few-{n}"))).collect();
    world.send_all(&few);
    world.wait_caught_up();
    assert_eq!(world.waiting().len(), 4);
    assert_eq!(world.dead_letters(), []);
    soon("the probation is over", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 4, "{letters:#?}");
    assert!(letters.iter().all(|letter| letter.code == "plugin-trap"));
    assert_eq!(
        (state(&host), swap::version(&host)),
        ("closed".to_owned(), "9.0.0".to_owned())
    );
    // What was held doesn't count twice: with as many again there is still too little to open it.
    let more: Vec<_> = (6..=9).map(|n| thing(&format!("more-{n}"))).collect();
    world.send_all(&more);
    world.wait_caught_up();
    assert_eq!(world.dead_letters().len(), 8);
    assert_eq!(state(&host), "closed");
    crate::laws::check(&world);
    host.stop();
    let kinds: HashSet<String> = route_events(&world)
        .iter()
        .filter_map(|event| event["kind"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(kinds, HashSet::from(["plugin.activated".to_owned()]));
}
