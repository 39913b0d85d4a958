//! Partitions that halt, and the commands that resolve them, as an operator uses them.

use rand::SeedableRng as _;
use rand::distr::{Alphanumeric, SampleString as _};
use rand::rngs::StdRng;
use serde_json::{Value, json};
use taskhost_tests::{Finished, Message, World, soon};

use crate::documented::update;

/// A status message for a partition that is found by trying: the key decides.
fn create(id: &str) -> Message {
    update(id, "new")
}

fn command(world: &World, arguments: &[&str]) -> Finished {
    world.host().run(arguments)
}

fn succeed(world: &World, arguments: &[&str]) -> String {
    let done = command(world, arguments);
    assert_eq!(
        done.code,
        Some(0),
        "{arguments:?}: {}{}",
        done.stdout,
        done.stderr
    );
    done.stdout
}

/// The lines of `partition list --json` with that state.
fn listed(world: &World, state: &str) -> Vec<Value> {
    succeed(world, &["partition", "list", "--json"])
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("an object a line"))
        .filter(|line| line["state"] == state)
        .collect()
}

#[test]
fn offsets_moved_by_hand_halt_a_partition_and_reset_to_progress_goes_on_without_repeating() {
    let world = World::with_partitions(1);
    let mut host = world.host().start();
    let messages: Vec<Message> = (0..5).map(|n| create(&format!("t-{n}"))).collect();
    world.send_all(&messages[..3]);
    world.wait_caught_up();
    host.terminate();
    let status = world.topic("task-status");
    world.move_offsets(|offsets| {
        let moved = offsets
            .get_mut(&(status.clone(), 0))
            .expect("the partition");
        moved.as_mut().expect("an offset").metadata = "taskhost/1 99".to_owned();
    });
    host.restart();
    let (topic, _, reason) = host.wait_halted("watermark-disagrees");
    assert_eq!(topic, status);
    let next = format!("`taskhost partition reset {status} 0 --to progress`");
    assert!(reason.contains(&next), "{reason}");
    // All others go on.
    world.send(
        Message::to("requests-web-crawl").key("r-1").json(
            &json!({"headers": {"requestId": "r-1"}, "message": crate::documented::request()}),
        ),
    );
    soon("the other partition goes on", || world.find_task("r-1"));
    world.send_all(&messages[3..]);

    let rows = listed(&world, "halted");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["code"], "watermark-disagrees");
    // The logical name serves as well; and nobody can be asked here.
    let asked = command(
        &world,
        &["partition", "reset", "task-status", "0", "--to", "progress"],
    );
    assert_eq!(asked.code, Some(2), "{}", asked.stderr);
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    assert_eq!(host.halted().len(), 1, "nothing is changed");
    let done = command(
        &world,
        &[
            "partition",
            "reset",
            "task-status",
            "0",
            "--to",
            "progress",
            "--yes",
        ],
    );
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    world.wait_caught_up();
    soon("health is well again", || {
        host.halted().is_empty().then_some(())
    });
    assert!(listed(&world, "halted").is_empty());
    let mut sent: Vec<String> = world
        .read("task-events")
        .iter()
        .map(|record| record.key_text())
        .collect();
    sent.sort();
    assert_eq!(sent, ["r-1", "t-0", "t-1", "t-2", "t-3", "t-4"]);
    let events = world.read("taskhost-events");
    for kind in ["partition.halted", "partition.resolved"] {
        let told = events.iter().filter(|event| event.json()["kind"] == kind);
        assert_eq!(told.count(), 1, "{kind}");
    }
    host.stop();
}

#[test]
fn records_that_retention_took_halt_a_partition_and_reset_to_earliest_says_what_is_lost() {
    let world = World::with_partitions(1);
    let mut host = world.host().start();
    world.send(create("t-0"));
    world.wait_caught_up();
    host.terminate();
    let next = world
        .progress()
        .iter()
        .find(|row| row.topic == world.topic("task-status"))
        .and_then(|row| row.next_offset)
        .expect("a place");
    world.send_all(&[create("t-1"), create("t-2"), create("t-3")]);
    world.delete_records("task-status", 0, next + 2);
    host.restart();
    let _ = host.wait_halted("offset-outside-log");
    let done = command(
        &world,
        &[
            "partition",
            "reset",
            "task-status",
            "0",
            "--to",
            "earliest",
            "--yes",
        ],
    );
    let gone = format!(
        "the records {next} to {} are never decided (2 at most)",
        next + 1
    );
    assert!(done.stderr.contains(&gone), "{}", done.stderr);
    assert!(
        done.stderr.contains("no longer in the log"),
        "{}",
        done.stderr
    );
    world.wait_caught_up();
    assert!(world.find_task("t-3").is_some());
    assert!(world.find_task("t-1").is_none() && world.find_task("t-2").is_none());
    host.stop();
}

#[test]
fn a_topic_made_again_halts_its_partitions_and_is_read_from_its_beginning_after_a_reset() {
    let world = World::with_partitions(1);
    let mut host = world.host().start();
    world.send(create("t-0"));
    world.wait_caught_up();
    host.terminate();
    world.recreate_topic("task-status", 1);
    host.restart();
    let _ = host.wait_halted("topic-recreated");
    let refused = command(
        &world,
        &[
            "partition",
            "reset",
            "task-status",
            "0",
            "--to",
            "progress",
            "--yes",
        ],
    );
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("made again"), "{}", refused.stderr);
    world.send(create("t-1"));
    succeed(
        &world,
        &[
            "partition",
            "reset",
            "task-status",
            "0",
            "--to",
            "earliest",
            "--yes",
        ],
    );
    world.wait_caught_up();
    assert!(world.find_task("t-1").is_some());
    host.stop();
}

/// A message of a size, to a task of that name, which no compression makes much smaller.
pub(crate) fn large(id: &str, bytes: usize) -> Message {
    let mut rng = StdRng::seed_from_u64(7);
    let text: String = Alphanumeric.sample_string(&mut rng, bytes);
    Message::to("task-status")
        .key(id)
        .json(&json!({"taskId": id, "status": "new", "text": text}))
}

#[test]
fn a_message_that_its_topic_refuses_halts_one_partition_until_it_is_resumed_or_diverted() {
    let world = World::with_partitions(2);
    world.create_topic("task-events", 2);
    let host = world.host().start();
    world.send(create("first"));
    world.wait_caught_up();
    // Known sizes are checked before a batch commits; this change comes behind the host's back.
    world.configure_topic("task-events", &[("max.message.bytes", "5000")]);
    world.send(large("large-1", 20_000));
    let (_, number, reason) = host.wait_halted("unpublishable-message");
    let events = world.topic("task-events");
    assert!(reason.contains(&events), "{reason}");
    assert_eq!(host.halted().len(), 1);
    // The other partition of the topic goes on, through the same publisher.
    let free: Vec<Message> = (0..20).map(|n| create(&format!("other-{n}"))).collect();
    world.send_all(&free);
    soon("the other partition's messages are published", || {
        let sent = world.read("task-events");
        sent.iter()
            .any(|record| record.key_text().starts_with("other-"))
            .then_some(())
    });

    // Put right, and tried again.
    world.configure_topic("task-events", &[]);
    let number = number.to_string();
    succeed(&world, &["partition", "resume", "task-status", &number]);
    world.wait_caught_up();
    soon("health is well again", || {
        host.halted().is_empty().then_some(())
    });

    // Not put right: set aside.
    world.configure_topic("task-events", &[("max.message.bytes", "5000")]);
    world.send_all(&[large("large-1b", 20_000), create("last")]);
    let (_, number, _) = host.wait_halted("unpublishable-message");
    let number = number.to_string();
    let done = command(
        &world,
        &["partition", "divert", "task-status", &number, "--yes"],
    );
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("key large-1b"), "{}", done.stderr);
    world.wait_caught_up();
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(
        (letters[0].code.as_str(), letters[0].record_topic.as_str()),
        ("unpublishable-message", events.as_str())
    );
    let mut sent: Vec<String> = world
        .read("task-events")
        .iter()
        .map(|record| record.key_text())
        .filter(|key| !key.starts_with("other-"))
        .collect();
    sent.sort();
    assert_eq!(sent, ["first", "large-1", "last"]);
    host.stop();
}

#[test]
fn a_command_on_a_partition_that_is_none_or_is_well_says_so() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    world.send(create("t-0"));
    world.wait_caught_up();
    assert_eq!(listed(&world, "owned").len(), 2);
    let nothing = succeed(&world, &["partition", "list", "--halted"]);
    assert_eq!(nothing, "no partition is halted\n");
    let well = succeed(&world, &["partition", "resume", "task-status", "0"]);
    assert_eq!(well, "nothing to do: not halted\n");
    let none = command(&world, &["partition", "resume", "task-status", "7"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("partition list"), "{}", none.stderr);
    let whole = command(
        &world,
        &["partition", "divert", "task-status", "0", "--yes"],
    );
    assert_eq!(whole.code, Some(1));
    host.stop();
}

#[test]
fn a_partition_that_is_well_can_be_sent_back_and_decides_its_records_once_more() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    world.send_all(&[create("t-0"), create("t-1")]);
    world.wait_caught_up();
    let consumed = || world.progress().iter().map(|row| row.consumed).sum::<i64>();
    let before = consumed();
    let done = command(
        &world,
        &[
            "partition",
            "reset",
            "task-status",
            "0",
            "--to",
            "earliest",
            "--yes",
        ],
    );
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("decided again"), "{}", done.stderr);
    soon("both are decided again", || {
        (consumed() == before + 2).then_some(())
    });
    world.wait_caught_up();
    // A creation that repeats changes nothing.
    assert_eq!(world.events("t-0").len(), 1);
    host.stop();
}
