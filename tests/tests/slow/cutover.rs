//! From a kafkajs consumer to the host and back, in one group, with the documented commands.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use taskhost::dev::{DeathSignal, Process};
use taskhost_tests::{Host, Message, PATIENCE, Page, World, checkout, soon};

/// The replaced system's consumer, running.
struct Kafkajs {
    process: Process,
    dir: PathBuf,
}

impl Kafkajs {
    /// Starts it; with a limit it leaves by itself.
    fn start(world: &World, limit: Option<usize>) -> Self {
        // kafkajs ends if its group's coordinator still loads, as on a broker that was just started.
        let _ = world.watermarks();
        let dir = world.dir().join("kafkajs");
        if !dir.exists() {
            fs::create_dir(&dir).expect("a directory");
            let modules = checkout().join(".tools/node/node_modules");
            symlink(modules, dir.join("node_modules")).expect("a link to kafkajs");
            let script = checkout().join("tests/kafkajs/consume.mjs");
            fs::copy(script, dir.join("consume.mjs")).expect("the script");
        }
        let create = |name: &str| File::create(dir.join(name)).expect("a file for its output");
        let mut command = Command::new("node");
        command
            .arg(dir.join("consume.mjs"))
            .env("BROKERS", world.brokers())
            .env("GROUP", world.group())
            .env("TOPIC", world.topic("task-status"))
            .env(
                "LIMIT",
                limit.map_or(String::new(), |limit| limit.to_string()),
            )
            .stdout(create("out"))
            .stderr(create("err"));
        let process =
            Process::spawn("kafkajs", command, DeathSignal(Signal::SIGKILL)).expect("node");
        Self { process, dir }
    }

    fn output(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.output("out");
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn wait_joined(&self) {
        soon("kafkajs is in the group", || {
            let joined = self.lines().iter().any(|line| line["joined"] == true);
            joined.then_some(())
        });
    }

    /// Waits until it has left, having taken these messages: by key, with partition and offset.
    fn wait_left(self) -> Vec<(String, i64, i64)> {
        let status = self.process.wait_for(PATIENCE).expect("it leaves");
        assert!(
            status.success(),
            "{status}: {}\n{}",
            self.output("out"),
            self.output("err")
        );
        let lines = self.lines();
        let taken = lines.iter().filter(|line| line["key"].is_string());
        let number = |value: &Value| value.as_i64().expect("a number");
        taken
            .map(|line| {
                let key = line["key"].as_str().expect("a key").to_owned();
                (key, number(&line["partition"]), number(&line["offset"]))
            })
            .collect()
    }

    fn stop(self) -> Vec<(String, i64, i64)> {
        self.process.signal(Signal::SIGTERM);
        self.wait_left()
    }
}

fn send(world: &World, ids: std::ops::Range<i32>) {
    let updates: Vec<Message> = ids
        .map(|id| {
            let id = format!("t-{id}");
            let partition = i32::from(id.ends_with(['1', '3', '5', '7', '9']));
            Message::to("task-status")
                .partition(partition)
                .key(id.as_str())
                .json(&json!({"taskId": id, "status": "new"}))
        })
        .collect();
    world.send_all(&updates);
}

fn ids(range: std::ops::Range<i32>) -> BTreeSet<String> {
    range.map(|id| format!("t-{id}")).collect()
}

fn keys(taken: &[(String, i64, i64)]) -> BTreeSet<String> {
    taken.iter().map(|(key, _, _)| key.clone()).collect()
}

fn tasks(world: &World) -> BTreeSet<String> {
    world.tasks().into_iter().map(|task| task.id).collect()
}

/// What `/readyz` says of the group.
fn kept_out(host: &Host) -> String {
    soon("the host says what keeps it from the group", || {
        assert_eq!(host.exit_status(), None, "it ended: {}", host.log());
        let missing = host.get("/readyz").json()["missing"].clone();
        let group = missing
            .as_array()?
            .iter()
            .find(|missing| missing["what"] == "group")?;
        let reason = group["reason"].as_str()?;
        reason
            .contains("another kind of consumer")
            .then(|| reason.to_owned())
    })
}

#[test]
fn a_host_takes_exactly_what_kafkajs_left_and_kafkajs_what_the_host_left() {
    let world = World::with_partitions(2);
    let page = Page::read("migrating.md");
    let check = page.block("## Check", "sh");
    send(&world, 0..10);
    let taken = keys(&Kafkajs::start(&world, Some(6)).wait_left());
    assert_eq!(taken.len(), 6);
    let checked = world.shell(check).ok();
    assert!(checked.contains("Empty"), "{checked}");

    let host = world.host().start();
    world.wait_caught_up();
    let rest: BTreeSet<String> = ids(0..10).difference(&taken).cloned().collect();
    assert_eq!(tasks(&world), rest);
    host.stop();
    let checked = world.shell(check).ok();
    assert!(checked.contains("Empty"), "{checked}");
    let owed = world.localized(page.block("## The way back", "sql"));
    assert_eq!(
        world.ask(owed.trim().to_owned().leak()),
        [Some("0".to_owned())]
    );
    let marks = world.watermarks();
    let next = |partition: i64| {
        let partition = i32::try_from(partition).expect("a partition");
        let mark = marks[&(world.topic("task-status"), partition)].clone();
        mark.expect("an offset")
    };
    assert!(
        next(0).batch().is_some() && next(1).batch().is_some(),
        "{marks:?}"
    );

    send(&world, 10..16);
    let back = Kafkajs::start(&world, Some(6)).wait_left();
    assert_eq!(keys(&back), ids(10..16));
    for partition in [0, 1] {
        let offsets = back.iter().filter(|(_, found, _)| *found == partition);
        let first = offsets.map(|(_, _, offset)| *offset).min();
        assert!(first >= Some(next(partition).offset), "{back:?} {marks:?}");
    }
}

#[test]
fn a_host_that_is_told_so_starts_at_the_oldest_message_once() {
    let world = World::with_partitions(2);
    send(&world, 0..10);
    let taken = Kafkajs::start(&world, Some(6)).wait_left();
    assert_eq!(taken.len(), 6);
    let mut host = world.host().env("TASKHOST_START", "earliest").start();
    world.wait_caught_up();
    assert_eq!(tasks(&world), ids(0..10));
    host.terminate();
    host.restart();
    send(&world, 10..12);
    world.wait_caught_up();
    assert_eq!(tasks(&world), ids(0..12));
    assert_eq!(world.all_events().len(), 12, "nothing is decided again");
    host.stop();
}

#[test]
fn a_host_beside_kafkajs_explains_itself_and_joins_once_it_has_left() {
    let world = World::with_partitions(2);
    send(&world, 0..4);
    let kafkajs = Kafkajs::start(&world, None);
    kafkajs.wait_joined();
    let host = world.host().spawn();
    let reason = soon("the host names the other one", || {
        Some(kept_out(&host)).filter(|reason| reason.contains("old-task-manager"))
    });
    for words in [world.group().as_str(), "migrating.md", "RoundRobinAssigner"] {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    host.wait_log("another kind of consumer");
    let health = host.get("/api/health/kafka");
    assert_eq!(health.status, 503, "{}", health.body);
    // It is said, and not each second again.
    let said = host.log().matches("can't be joined").count();
    assert!(said <= 3, "{said} times: {}", host.log());
    assert_eq!(tasks(&world), BTreeSet::new());

    let taken = keys(&kafkajs.stop());
    host.wait_ready();
    send(&world, 4..8);
    world.wait_caught_up();
    let rest: BTreeSet<String> = ids(0..8).difference(&taken).cloned().collect();
    assert_eq!(tasks(&world), rest);

    // The other way round kafkajs ends with an error, and the host doesn't notice.
    let late = Kafkajs::start(&world, Some(1));
    let status = late
        .process
        .wait_for(Duration::from_secs(60))
        .expect("it gives up");
    assert!(!status.success());
    let page = Page::read("migrating.md");
    let words = page
        .block("kafkajs that starts while a host runs", "text")
        .trim();
    assert!(late.output("err").contains(words), "{}", late.output("err"));
    assert_eq!(host.get("/readyz").status, 200);
    host.stop();
}
