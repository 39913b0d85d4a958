//! Plugins are replaced while messages pour in: nothing is lost, and each partition changes over once.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use taskhost_tests::{Host, HostBuilder, Message, World, checkout, soon};

pub(crate) const PARTITIONS: i32 = 4;

/// Messages that are sent at a time, under load.
const CHUNK: usize = 500;

pub(crate) fn world() -> World {
    let mut world = World::bare();
    world.consumes(&["swap"]);
    world.create_topic("swap", PARTITIONS);
    world.install("guest_swap_v1", "swap");
    world
}

pub(crate) fn host(world: &World) -> HostBuilder {
    let config = format!(
        "[topics]\nswap = \"{}\"\n\n[[route]]\ntopic = \"swap\"\nplugin = \"swap\"\ndefault_task_type = \"thing\"\n",
        world.topic("swap"),
    );
    world.host().config(&config)
}

pub(crate) fn messages(from: usize) -> Vec<Message> {
    let message = |number: usize| {
        let id = format!("thing-{number}");
        Message::to("swap")
            .key(id.clone())
            .json(&json!({ "id": id }))
    };
    (from..from + CHUNK).map(message).collect()
}

fn route(host: &Host) -> Value {
    host.get("/api/plugins").json()["routes"][0].clone()
}

pub(crate) fn version(host: &Host) -> String {
    route(host)["active"]["version"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Sends until `change` is through and has been decided under for a while; answers how many messages it were.
pub(crate) fn under_load(world: &World, change: impl FnOnce()) -> usize {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                world.send_all(&messages(sent));
                sent += CHUNK;
            }
            sent
        });
        // Also when it fails: the sender has to end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_decided(world, "1.0.0");
            change();
            wait_decided(world, "2.0.0");
        }));
        done.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("the sender");
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sent
    })
}

/// Waits until every partition has decided by that version.
pub(crate) fn wait_decided(world: &World, version: &str) {
    soon("every partition has decided by it", || {
        let rows =
            world.ask("SELECT DISTINCT plugin_version || ' ' || cause_partition FROM task_history");
        let of_version = rows.iter().flatten().filter(|row| row.starts_with(version));
        (of_version.count() == usize::try_from(PARTITIONS).expect("a small number")).then_some(())
    });
}

/// Every message was applied once, and each partition changed over once, from the old version to the new.
pub(crate) fn assert_swapped_once(world: &World, sent: usize) {
    let mut events = world.all_events();
    events.sort_by_key(|event| (event.cause_partition, event.cause_offset));
    let tasks: HashSet<&str> = events.iter().map(|event| event.task_id.as_str()).collect();
    assert_eq!(
        (events.len(), tasks.len()),
        (sent, sent),
        "each message is applied once"
    );
    let mut versions: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for event in &events {
        let rule = format!("{}.0.0", event.data["rule"]);
        assert_eq!(
            rule, event.plugin_version,
            "{event:?}: the version that is recorded is the one that decided"
        );
        versions
            .entry(event.cause_partition)
            .or_default()
            .push(&event.plugin_version);
    }
    for (partition, mut versions) in versions {
        versions.dedup();
        assert_eq!(versions, ["1.0.0", "2.0.0"], "partition {partition}");
    }
    let published: Vec<String> = world
        .read("task-events")
        .iter()
        .map(|record| record.json()["message"]["taskId"].to_string())
        .collect();
    let distinct: HashSet<&String> = published.iter().collect();
    assert_eq!(
        (published.len(), distinct.len()),
        (sent, sent),
        "each event is published once"
    );
    assert_eq!(world.dead_letters(), []);
}

/// The longest time between two commits of one partition around the change, and anywhere, in milliseconds.
fn pauses(world: &World) -> Vec<Option<String>> {
    world.ask(
        "WITH batches AS (SELECT DISTINCT cause_partition, stored_at, plugin_version FROM task_history), \
         steps AS (SELECT plugin_version <> lag(plugin_version) OVER w AS swap, \
             extract(epoch FROM stored_at - lag(stored_at) OVER w) * 1000 AS pause \
             FROM batches WINDOW w AS (PARTITION BY cause_partition ORDER BY stored_at)) \
         SELECT 'between two batches of a partition: at the swap at most ' || round(max(pause) FILTER (WHERE swap)) \
             || ' ms, else ' || round(percentile_cont(0.5) WITHIN GROUP (ORDER BY pause) FILTER (WHERE NOT swap)) \
             || ' ms (median), ' || round(max(pause) FILTER (WHERE NOT swap)) || ' ms (longest)' FROM steps",
    )
}

#[test]
fn a_swap_under_load_loses_nothing_and_each_partition_changes_over_once() {
    let world = world();
    let host = host(&world).start();
    assert_eq!(version(&host), "1.0.0");
    let sent = under_load(&world, || world.install("guest_swap_v2", "swap"));
    world.wait_caught_up();
    assert_swapped_once(&world, sent);
    let route = route(&host);
    assert_eq!(
        (&route["active"]["version"], &route["active"]["activation"]),
        (&json!("2.0.0"), &json!(2))
    );
    println!(
        "{sent} messages; {}",
        pauses(&world)[0].as_deref().unwrap_or("?")
    );
    host.stop();
}

#[test]
fn two_hosts_change_over_together() {
    let world = world();
    let hosts = [host(&world).start(), host(&world).start()];
    let sent = under_load(&world, || world.install("guest_swap_v2", "swap"));
    world.wait_caught_up();
    assert_swapped_once(&world, sent);
    for host in &hosts {
        soon("both say so", || (version(host) == "2.0.0").then_some(()));
    }
    // Law 5: no batch of the old version began to be written after one of the new, whichever host and partition.
    let in_order = world.ask(
        "SELECT (max(stored_at) FILTER (WHERE plugin_version = '1.0.0') \
         < min(stored_at) FILTER (WHERE plugin_version = '2.0.0'))::text FROM task_history",
    );
    assert_eq!(in_order, [Some("true".to_owned())]);
    hosts.into_iter().for_each(Host::stop);
}

#[test]
fn a_burst_of_writes_in_place_and_an_editors_temporary_files_end_as_one_activation() {
    let world = world();
    let host = host(&world).start();
    let sent = under_load(&world, || {
        for litter in [".swap.wasm.swp", "swap.wasm~", "4913", "swap.wasm.part"] {
            fs::write(world.plugin_dir().join(litter), "not for anybody").expect("a file");
        }
        let bytes = artefact("guest_swap_v2");
        let mut file =
            File::create(world.plugin_dir().join("swap.wasm")).expect("the file in place");
        for piece in bytes.chunks(bytes.len().div_ceil(50)) {
            file.write_all(piece).expect("a piece");
            file.sync_data().expect("the disk");
        }
    });
    world.wait_caught_up();
    assert_swapped_once(&world, sent);
    assert_eq!(
        world.ask("SELECT max(number)::text FROM activations"),
        [Some("2".to_owned())]
    );
    assert_eq!(refusals(&host), (0, None));
    host.stop();
}

#[test]
fn a_plugin_that_is_refused_says_why_and_the_old_one_goes_on() {
    let world = world();
    let host = host(&world).start();
    let text = world.dir().join("text");
    fs::write(&text, "This is a text.\n").expect("a file");
    fs::rename(&text, world.plugin_dir().join("swap.wasm")).expect("the plugin's place");
    let mut expected = vec![expect_refused(&host, 1, "not a WebAssembly component")];
    for (guest, why) in [
        (
            "guest_refused_config",
            "this guest accepts no configuration",
        ),
        ("guest_bad_descriptor", "its description is wrong"),
        ("guest_spins_in_configure", "in time"),
        ("guest_misbehave", "does not fit the route"),
    ] {
        world.install(guest, "swap");
        expected.push(expect_refused(&host, expected.len() + 1, why));
        let id = format!("after-{guest}");
        world.send(
            Message::to("swap")
                .key(id.clone())
                .json(&json!({ "id": id })),
        );
        world.wait_caught_up();
        assert_eq!(
            world.events(&id)[0].plugin_version,
            "1.0.0",
            "the old one goes on"
        );
    }
    let log = host.log();
    for reason in expected {
        let quoted = serde_json::to_string(&reason).expect("a text");
        assert!(
            log.contains(quoted.trim_matches('"')),
            "the log has the reason: {reason}"
        );
    }
    assert_eq!(version(&host), "1.0.0");
    world.install("guest_swap_v2", "swap");
    soon("a good one is taken", || {
        (version(&host) == "2.0.0").then_some(())
    });
    assert_eq!(host.get("/readyz").status, 200);
    host.stop();
}

/// How many files were refused, and why the last one was.
pub(crate) fn refusals(host: &Host) -> (usize, Option<String>) {
    let list = host.get("/api/plugins").json()["refused"].clone();
    let last = list
        .as_array()
        .and_then(|list| list.first())
        .map(|last| last["reason"].as_str().unwrap_or_default().to_owned());
    (
        host.count("taskhost_plugin_refused_total", &[("route", "swap")]),
        last,
    )
}

/// Waits until so many files have been refused, the last for this; answers the whole reason.
fn expect_refused(host: &Host, count: usize, why: &str) -> String {
    soon(why, || match refusals(host) {
        (found, Some(reason)) if found >= count && reason.contains(why) => Some(reason),
        _ => None,
    })
}

pub(crate) fn artefact(name: &str) -> Vec<u8> {
    let file = checkout()
        .join("plugins/target/wasm32-wasip2/release")
        .join(format!("{name}.wasm"));
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
