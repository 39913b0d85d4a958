//! One version of the rules on all hosts: who hears of it and how, and from which record on it decided.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use taskhost_tests::{Host, HostBuilder, Message, Proxy, World, checkout, soon};

use crate::documented::update;
use crate::swap::{self, PARTITIONS, artefact, assert_swapped_once, refusals, under_load, version};

/// Longer than any test waits: what happens before was not the polling's doing.
const NEVER_MS: &str = "3600000";

/// That neither watches its directory nor asks for the activations.
fn deaf(host: HostBuilder) -> HostBuilder {
    host.env("TASKHOST_PLUGINS_WATCH", "false")
        .env("TASKHOST_PLUGINS_POLL_INTERVAL", NEVER_MS)
}

pub(crate) fn file(artefact: &str) -> String {
    let dir = checkout().join("plugins/target/wasm32-wasip2/release");
    dir.join(format!("{artefact}.wasm")).display().to_string()
}

/// `plugin activate` on the route, as a person types it.
pub(crate) fn activate(world: &World, arguments: &[&str]) -> Value {
    let all = [&["plugin", "activate", "swap"], arguments, &["--json"]].concat();
    let said = swap::host(world).run(&all).ok();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// `plugin history` of a route, the current activation first.
pub(crate) fn history(host: &HostBuilder, route: &str) -> Vec<Value> {
    let said = host
        .run(&["plugin", "history", "--route", route, "--json"])
        .ok();
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Where an activation took effect: the offset by partition.
fn starts(activation: &Value) -> BTreeMap<i64, i64> {
    let starts = activation["starts"].as_array().expect("a list");
    let number = |value: &Value| value.as_i64().expect("a number");
    starts
        .iter()
        .map(|start| (number(&start["partition"]), number(&start["offset"])))
        .collect()
}

fn activation(host: &Host) -> i64 {
    let routes = host.get("/api/plugins").json();
    routes["routes"][0]["active"]["activation"]
        .as_i64()
        .expect("an activation")
}

fn last_number(world: &World) -> String {
    let numbers = world.ask("SELECT max(number)::text FROM activations WHERE route = 'swap'");
    numbers[0].clone().expect("an activation")
}

pub(crate) fn thing(id: &str) -> Message {
    Message::to("swap").key(id).json(&json!({ "id": id }))
}

/// The version that decided about a task, once it is there.
fn decided_by(world: &World, id: &str) -> String {
    soon("it is decided", || {
        world.events(id).pop().map(|event| event.plugin_version)
    })
}

/// Waits until so many connections listen for notifications, and says which.
fn wait_listeners(world: &World, count: usize) -> Vec<String> {
    soon("every host listens", || {
        let listening = world.ask(
            "SELECT pid::text FROM pg_stat_activity \
             WHERE datname = current_database() AND query LIKE 'LISTEN %' AND state = 'idle'",
        );
        (listening.len() == count).then(|| listening.into_iter().flatten().collect())
    })
}

#[test]
fn a_swap_under_load_over_three_hosts_is_recorded_at_the_record_where_it_took_effect() {
    let world = swap::world();
    let host = || {
        swap::host(&world)
            .env("TASKHOST_PLUGINS_WATCH", "false")
            .start()
    };
    let hosts = [host(), host(), host()];
    let sent = under_load(&world, || {
        let done = activate(&world, &["--file", &file("guest_swap_v2")]);
        assert_eq!(done["activation"], 2);
    });
    world.wait_caught_up();
    assert_swapped_once(&world, sent);

    let told = history(&swap::host(&world), "swap");
    let numbers: Vec<&Value> = told.iter().map(|one| &one["activation"]).collect();
    assert_eq!(numbers, [2, 1]);
    let (new, old) = (&told[0], &told[1]);
    assert_eq!(
        (&new["version"], &old["version"]),
        (&json!("2.0.0"), &json!("1.0.0"))
    );
    assert_eq!(new["reason"], "a command named this file");
    assert_eq!(old["reason"], "the file swap.wasm changed");
    let (new_digest, old_digest) = (new["digest"].as_str(), old["digest"].as_str());
    let (new, old) = (starts(new), starts(old));
    let all: Vec<i64> = (0..i64::from(PARTITIONS)).collect();
    assert_eq!(
        new.keys().copied().collect::<Vec<_>>(),
        all,
        "on every partition"
    );
    assert_eq!(old.into_values().collect::<Vec<_>>(), vec![0; all.len()]);
    for event in world.all_events() {
        let start = new[&i64::from(event.cause_partition)];
        let expected = if event.cause_offset < start {
            old_digest
        } else {
            new_digest
        };
        assert_eq!(
            Some(event.plugin_digest.as_str()),
            expected,
            "{start}: {event:?}"
        );
    }
    // The record itself is the first of the new version: the boundary is no gap.
    for (partition, start) in &new {
        let events = world.all_events();
        let at = events.iter().any(|event| {
            (i64::from(event.cause_partition), event.cause_offset) == (*partition, *start)
        });
        assert!(at, "partition {partition}: record {start} was decided");
    }
    for host in &hosts {
        soon("the API tells the same", || {
            let shown = host.get("/api/plugins/history").json();
            let shown = shown["activations"].as_array()?.clone();
            (shown == told).then_some(())
        });
    }
    hosts.into_iter().for_each(Host::stop);
}

#[test]
fn routes_that_share_a_topic_change_over_at_their_own_first_record() {
    let mut world = World::bare();
    world.consumes(&["swap"]);
    world.create_topic("swap", 1);
    world.install("guest_swap_v1", "one");
    world.install("guest_swap_v1", "other");
    let route = |plugin: &str| {
        format!("[[route]]\ntopic = \"swap\"\ntask_type = \"{plugin}\"\nplugin = \"{plugin}\"\n\n")
    };
    let config = format!(
        "[topics]\nswap = \"{}\"\n\n{}{}",
        world.topic("swap"),
        route("one"),
        route("other")
    );
    let builder = world.host().config(&config);
    let host = builder.clone().start();
    let send = |id: &str, kind: &str| {
        let body =
            json!({ "headers": { "taskId": id, "taskType": kind }, "message": { "id": id } });
        world.send(Message::to("swap").key(id).json(&body));
        world.wait_caught_up();
    };
    send("a-0", "one");
    send("a-1", "one");
    send("b-2", "other");
    let arguments = ["plugin", "activate", "swap/other", "--file"];
    let done = builder.run(&[&arguments[..], &[&file("guest_swap_v2")]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    send("a-3", "one");
    send("a-4", "one");
    send("b-5", "other");
    send("a-6", "one");
    let of = |route: &str| -> Vec<_> { history(&builder, route).iter().map(starts).collect() };
    assert_eq!(of("swap/one"), [[(0, 0)].into()]);
    assert_eq!(of("swap/other"), [[(0, 5)].into(), [(0, 2)].into()]);
    assert_eq!(world.events("b-5")[0].plugin_version, "2.0.0");
    host.stop();
}

#[test]
fn a_message_that_waited_and_is_decided_first_starts_the_version_at_the_next_record() {
    let world = World::with_partitions(1);
    let host = world
        .host()
        .env("TASKHOST_DEFERRAL_DELAY_MAX", "500")
        .start();
    world.send_all(&[update("there", "new"), update("late", "started")]);
    world.wait_caught_up();
    // The same rules under another digest.
    let other = world.dir().join("other.wasm");
    fs::write(&other, renamed("task_status")).expect("the file");
    let path = other.display().to_string();
    let arguments = ["plugin", "activate", "task-status", "--file", &path];
    let done = world.host().run(&arguments);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let told = || history(&world.host(), "task-status");
    let start = soon("the waiting message is decided by it", || {
        starts(&told()[0]).remove(&0)
    });
    assert_eq!(start, 2, "the record that is next");
    world.send(update("there", "started"));
    world.wait_caught_up();
    assert_eq!(starts(&told()[0]), [(0, 2)].into());
    let digest = world.events("there").pop().expect("an event").plugin_digest;
    assert_eq!(told()[0]["digest"], digest.as_str());
    host.stop();
}

/// A component that does the same under another digest: with one more custom section.
fn renamed(name: &str) -> Vec<u8> {
    let mut bytes = artefact(name);
    bytes.extend([0, 6, 5, b'o', b't', b'h', b'e', b'r']);
    bytes
}

#[test]
fn every_host_hears_of_an_activation_at_once() {
    let world = swap::world();
    let hosts = [(); 3].map(|()| deaf(swap::host(&world)).start());
    wait_listeners(&world, hosts.len());
    let hear = |arguments: &[&str], expected: &str| {
        activate(&world, arguments);
        let began = Instant::now();
        for host in &hosts {
            soon("it decides by the new version", || {
                (version(host) == expected).then_some(())
            });
        }
        println!("all three follow {:?} after the command", began.elapsed());
    };
    hear(&["--file", &file("guest_swap_v2")], "2.0.0");
    hear(&["--previous"], "1.0.0");
    // A connection that ends is made again, and hears the next one.
    let ended = wait_listeners(&world, hosts.len());
    for pid in &ended {
        world.execute(&format!("SELECT pg_terminate_backend({pid})"));
    }
    soon("all of them are gone", || {
        let now = wait_listeners(&world, hosts.len());
        now.iter().all(|pid| !ended.contains(pid)).then_some(())
    });
    hear(&["--previous"], "2.0.0");
    hosts.into_iter().for_each(Host::stop);
}

#[test]
fn a_host_whose_notifications_are_lost_finds_the_activation_by_asking() {
    let world = swap::world();
    let proxy = Proxy::start(world.database_url());
    let host = swap::host(&world)
        .env("DATABASE_URL", proxy.url())
        .env("TASKHOST_PLUGINS_WATCH", "false")
        .env("TASKHOST_PLUGINS_POLL_INTERVAL", "300")
        .start();
    wait_listeners(&world, 1);
    proxy.mute_listeners(true);
    activate(&world, &["--file", &file("guest_swap_v2")]);
    soon("it decides by the new version", || {
        (version(&host) == "2.0.0").then_some(())
    });
    host.stop();
}

#[test]
fn a_host_that_has_not_heard_commits_nothing_under_the_old_version() {
    let world = swap::world();
    let proxy = Proxy::start(world.database_url());
    let host = deaf(swap::host(&world).env("DATABASE_URL", proxy.url())).start();
    wait_listeners(&world, 1);
    proxy.mute_listeners(true);
    world.send(thing("before"));
    assert_eq!(decided_by(&world, "before"), "1.0.0");
    activate(&world, &["--file", &file("guest_swap_v2")]);
    assert_eq!(version(&host), "1.0.0", "it has not heard");
    world.send(thing("after"));
    assert_eq!(decided_by(&world, "after"), "2.0.0");
    assert_eq!(version(&host), "2.0.0");
    host.stop();
}

/// A host whose plugins lie in a directory of their own, empty but for that file.
fn with_directory(world: &World, name: &str, artefact_name: Option<&str>) -> HostBuilder {
    let dir = world.dir().join(name);
    fs::create_dir_all(&dir).expect("the directory");
    if let Some(artefact_name) = artefact_name {
        fs::write(dir.join("swap.wasm"), artefact(artefact_name)).expect("the file");
    }
    swap::host(world).env("TASKHOST_PLUGINS_DIR", dir.display().to_string())
}

/// And with a cache of compiled plugins of its own.
fn cold(world: &World, name: &str) -> HostBuilder {
    let cache: PathBuf = world.dir().join(format!("{name}-cache"));
    with_directory(world, name, None).env("TASKHOST_PLUGINS_CACHE_DIR", cache.display().to_string())
}

#[test]
fn two_hosts_with_different_directories_do_not_fight() {
    let world = swap::world();
    let mut old = with_directory(&world, "old", Some("guest_swap_v1")).start();
    assert_eq!((version(&old), activation(&old)), ("1.0.0".to_owned(), 1));
    let mut new = with_directory(&world, "new", Some("guest_swap_v2")).start();
    assert_eq!((version(&new), activation(&new)), ("2.0.0".to_owned(), 2));
    soon("the old one follows", || {
        (activation(&old) == 2).then_some(())
    });
    for round in 0..3 {
        match round {
            0 => old.restart(),
            1 => new.restart(),
            _ => {
                old.respawn();
                new.restart();
                old.wait_ready();
            }
        }
        assert_eq!(
            (activation(&old), activation(&new)),
            (2, 2),
            "round {round}"
        );
        assert_eq!(
            (version(&old), version(&new)),
            ("2.0.0".to_owned(), "2.0.0".to_owned())
        );
    }
    let (count, why) = refusals(&old);
    assert!(
        count > 0 && why.clone().unwrap_or_default().contains("plugin activate"),
        "{why:?}"
    );

    // A command goes back: now the other directory's version is the one that was replaced.
    assert_eq!(activate(&world, &["--previous"])["activation"], 3);
    thread::scope(|scope| {
        scope.spawn(|| old.restart());
        scope.spawn(|| new.restart());
    });
    assert_eq!((activation(&old), activation(&new)), (3, 3));
    world.send(thing("decided"));
    assert_eq!(decided_by(&world, "decided"), "1.0.0");
    assert_eq!(last_number(&world), "3");
    [old, new].into_iter().for_each(Host::stop);
}

#[test]
fn a_host_without_the_component_takes_it_from_postgres_and_refuses_it_if_it_is_damaged() {
    let world = swap::world();
    let first = swap::host(&world)
        .env("TASKHOST_PLUGINS_WATCH", "false")
        .start();
    activate(&world, &["--file", &file("guest_swap_v2")]);
    activate(&world, &["--previous"]);
    first.stop();

    // Nothing in its directory, nothing compiled.
    let empty = cold(&world, "empty").start();
    world.send(thing("from-postgres"));
    assert_eq!(decided_by(&world, "from-postgres"), "1.0.0");

    // The version that comes next is damaged in Postgres.
    let damage = "UPDATE plugin_versions SET bytes = set_byte(bytes, 1000, get_byte(bytes, 1000) # 1) \
         WHERE version = '2.0.0'";
    world.execute(damage);
    let arguments = ["plugin", "activate", "swap", "--previous"];
    let refused = swap::host(&world).run(&arguments);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("are damaged"), "{}", refused.stderr);
    assert_eq!(last_number(&world), "3", "nothing changed");
    // As if it had been damaged a moment later.
    world.execute(
        "INSERT INTO activations (route, number, digest, config, by, reason) \
         SELECT route, 4, digest, config, 'a test', 'to see' FROM activations WHERE number = 2",
    );
    empty.wait_log("are damaged");
    let (_, why) = refusals(&empty);
    assert!(
        why.as_deref().unwrap_or_default().contains("are damaged"),
        "{why:?}"
    );
    world.send(thing("after-damage"));
    empty.wait_log("the step is repeated after a pause");
    assert_eq!(
        world.find_task("after-damage"),
        None,
        "nothing is decided by the old version"
    );

    // One that starts now has nothing to decide by.
    let other = cold(&world, "other").spawn();
    assert_eq!(other.wait_exit().code(), Some(1));
    assert!(other.log().contains("are damaged"), "{}", other.log());

    // The file heals it, and the host goes on by itself.
    activate(&world, &["--file", &file("guest_swap_v2")]);
    assert_eq!(decided_by(&world, "after-damage"), "2.0.0");
    assert_eq!(
        (version(&empty), activation(&empty)),
        ("2.0.0".to_owned(), 4)
    );
    empty.stop();
}

#[test]
fn compiled_code_that_is_damaged_is_compiled_again_from_the_stored_bytes() {
    let world = swap::world();
    swap::host(&world).start().stop();
    let host = cold(&world, "cold");
    host.clone().start().stop();
    let files = fs::read_dir(world.dir().join("cold-cache")).expect("the cache");
    for entry in files {
        let path = entry.expect("a file").path();
        let mut bytes = fs::read(&path).expect("its bytes");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("the damage");
    }
    let host = host.start();
    host.wait_log("compiled code is not used; the plugin is compiled again");
    world.send(thing("there"));
    assert_eq!(decided_by(&world, "there"), "1.0.0");
    host.stop();
}
