//! Timers through the deaths of hosts: set, replaced and cancelled by task and name, each firing once.

use serde_json::{Value, json};
use taskhost_tests::{HostBuilder, Message, World};

use crate::crash::wait_settled;

/// Where hosts die, one after another: around the commits of what is set and of what fires.
const DEATHS: [&str; 5] = [
    "before-postgres-commit:2",
    "after-postgres-commit",
    "after-postgres-commit:2",
    "publish-inside-transaction:2",
    "before-postgres-commit:3",
];

/// Tasks for each host, a third of each kind.
const TASKS: usize = 12;

/// What a task's messages ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Set,
    Replace,
    Cancel,
}

const KINDS: [Kind; 3] = [Kind::Set, Kind::Replace, Kind::Cancel];

fn host(world: &World) -> HostBuilder {
    let config = format!(
        "[topics]\ntimers = \"{}\"\n\n[[route]]\ntopic = \"timers\"\nplugin = \"timers\"\ndefault_task_type = \"thing\"\n",
        world.topic("timers"),
    );
    world
        .host()
        .config(&config)
        .env("TASKHOST_BATCH_MESSAGES_MAX", "10")
        .env("KAFKA_SESSION_TIMEOUT", "1500")
        .env("KAFKA_HEARTBEAT_INTERVAL", "300")
}

fn message(id: &str, mark: u32, after_ms: Option<u32>) -> Message {
    let body = json!({ "id": id, "mark": mark, "after": after_ms });
    Message::to("timers").key(id).json(&body)
}

fn messages(turn: usize) -> Vec<Message> {
    let each = |number: usize| {
        let kind = KINDS[number % KINDS.len()];
        let id = format!("{kind:?}-{turn}-{number}");
        let set = message(&id, 1, Some(1_000));
        match kind {
            Kind::Set => vec![set],
            Kind::Replace => vec![set, message(&id, 2, Some(1_500))],
            Kind::Cancel => vec![set, message(&id, 2, None)],
        }
    };
    (0..TASKS).flat_map(each).collect()
}

/// A task's steps in order, each with its mark.
fn steps(world: &World, id: &str) -> Vec<(String, u64)> {
    let events = world.events(id).into_iter();
    events
        .map(|event| {
            let mark = event.data.get("mark").and_then(Value::as_u64);
            (event.kind, mark.expect("a mark"))
        })
        .collect()
}

#[test]
fn timers_fire_once_however_often_hosts_die_and_never_after_they_were_replaced_or_cancelled() {
    let mut world = World::bare();
    world.consumes(&["timers"]);
    world.create_topic("timers", 2);
    world.install("guest_timers", "timers");
    for (turn, death) in DEATHS.iter().enumerate() {
        world.send_all(&messages(turn));
        let host = host(&world).failpoint(death).spawn();
        assert!(!host.wait_exit().success(), "it dies at {death}");
    }
    let host = host(&world).start();
    wait_settled(&world);

    for turn in 0..DEATHS.len() {
        for number in 0..TASKS {
            let kind = KINDS[number % KINDS.len()];
            let id = format!("{kind:?}-{turn}-{number}");
            let steps = steps(&world, &id);
            let last = match kind {
                Kind::Set => ("thing.set", 1),
                Kind::Replace => ("thing.set", 2),
                Kind::Cancel => ("thing.cancelled", 2),
            };
            let at = steps
                .iter()
                .position(|(event, mark)| (event.as_str(), *mark) == last);
            let at = at.unwrap_or_else(|| panic!("{id}: {steps:?}"));
            // A host that was dead for long enough leaves the first timer to fire before the second message is decided.
            let before = steps[..at]
                .iter()
                .filter(|(event, _)| event == "thing.fired");
            assert!(before.count() <= 1, "{id}: {steps:?}");
            let after: Vec<_> = steps[at + 1..].to_vec();
            let fired = |mark| vec![("thing.fired".to_owned(), mark)];
            let expected = match kind {
                Kind::Set => fired(1),
                Kind::Replace => fired(2),
                Kind::Cancel => vec![],
            };
            assert_eq!(after, expected, "{id}: {steps:?}");
        }
    }
    assert_eq!(world.dead_letters(), []);
    let events = world.all_events().len();
    assert_eq!(
        world.read("task-events").len(),
        events,
        "each is published once"
    );
    host.stop();
}
