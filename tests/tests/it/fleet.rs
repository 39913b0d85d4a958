//! The words in which tests of several hosts are told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use taskhost_tests::{HostBuilder, Pause, World, soon};

/// How often each partition gets a message from a steady load.
pub(crate) const EVERY: Duration = Duration::from_millis(20);

pub(crate) const SESSION_MS: u32 = 3000;
pub(crate) const HEARTBEAT_MS: u32 = 500;

/// One topic is enough, and then every partition has load.
const ROUTE: &str = "[[route]]\ntopic = \"task-status\"\nplugin = \"task_status\"\ndefault_task_type = \"web-crawl\"\n";

/// A world whose changes of progress are noted, with one consumed topic.
pub(crate) fn world(partitions: i32) -> World {
    let mut world = World::bare();
    world.consumes(&["task-status"]);
    world.create_topic("task-status", partitions);
    world.install("task_status", "task_status");
    noting(world, SESSION_MS, HEARTBEAT_MS)
}

/// The same of any world, and its sessions are as short under the newer protocol.
pub(crate) fn noting(world: World, session_ms: u32, heartbeat_ms: u32) -> World {
    let migrated = world.host().run(&["migrate"]);
    assert_eq!(migrated.code, Some(0), "{}", migrated.stderr);
    world.audit();
    world.shorten_sessions(session_ms, heartbeat_ms);
    world
}

/// A host with a name of its own, for [`world`].
pub(crate) fn host(world: &World, name: &str, protocol: &str) -> HostBuilder {
    named(world.host(), name, protocol)
        .config(ROUTE)
        .env("KAFKA_SESSION_TIMEOUT", SESSION_MS.to_string())
        .env("KAFKA_HEARTBEAT_INTERVAL", HEARTBEAT_MS.to_string())
}

/// With a name of its own, by which the notes of the world know it.
pub(crate) fn named(host: HostBuilder, name: &str, protocol: &str) -> HostBuilder {
    host.env("KAFKA_CLIENT_ID", name)
        .env("KAFKA_GROUP_PROTOCOL", protocol)
}

/// The host that claimed each partition last, of those that have committed a batch since.
pub(crate) fn owners(world: &World) -> BTreeMap<(String, i32), String> {
    let mut owners = BTreeMap::new();
    for step in world.steps() {
        let place = (step.topic, step.partition);
        let writer = step.writer.replace("taskhost ", "");
        match step.claim {
            true => owners.remove(&place),
            false => owners.insert(place, writer),
        };
    }
    owners
}

/// Waits until each of these hosts, and nobody else, works on partitions, and so many are worked on.
pub(crate) fn wait_shared(world: &World, partitions: usize, names: &[&str]) {
    let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    soon(&format!("{names:?} share the partitions"), || {
        let owners = owners(world);
        let found: BTreeSet<String> = owners.values().cloned().collect();
        (owners.len() == partitions && found == expected).then_some(())
    });
}

/// Lets a load go on for a while: what is measured is what happens in it.
pub(crate) fn observe(duration: Duration) {
    let began = Instant::now();
    soon("a while is over", || {
        (began.elapsed() >= duration).then_some(())
    });
}

/// Pauses for people.
pub(crate) fn shown(pauses: &[Pause]) -> String {
    let each = pauses.iter().map(|pause| {
        format!(
            "{}: {} ms, waited {} ms",
            pause.partition, pause.gap_ms, pause.wait_ms
        )
    });
    each.collect::<Vec<_>>().join("; ")
}

/// The longest time without a batch, of all partitions that count.
pub(crate) fn longest(pauses: &[Pause], counts: impl Fn(i32) -> bool) -> i64 {
    let counted = pauses.iter().filter(|pause| counts(pause.partition));
    counted
        .map(|pause| pause.gap_ms)
        .max()
        .expect("a partition")
}
