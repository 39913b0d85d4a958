//! Every state of progress and watermark that the protocol's tables name, built by hand: each partition goes on with
//! exactly what is owed, or stops and says why, while the others of the same host go on.

mod states;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use taskhost_tests::{Host, Message, ProgressRow, Watermark, World, soon};

use crate::documented::update;
use states::Then::{GoesOn, Halts};
use states::{Committed, RETENTION, Row, State, UNREADABLE, states};

pub(crate) use states::OUTSIDE;

pub(crate) const TOPIC: &str = "task-status";

/// Records of a partition before its state is built: each of them a batch of its own.
const RECORDS: i64 = 3;

pub(crate) fn id(partition: i32, offset: i64) -> String {
    format!("task-{partition}-{offset}")
}

pub(crate) fn message(partition: i32, offset: i64) -> Message {
    update(&id(partition, offset), "new").partition(partition)
}

/// One more record in each partition.
fn send_round(world: &World, partitions: i32, offset: i64) {
    let round: Vec<Message> = (0..partitions)
        .map(|partition| message(partition, offset))
        .collect();
    world.send_all(&round);
}

fn row(world: &World, partition: i32) -> Option<ProgressRow> {
    let topic = world.topic(TOPIC);
    let mut rows = world.progress().into_iter();
    rows.find(|row| row.topic == topic && row.partition == partition)
}

/// How often each record's event is in the output topic.
fn published(world: &World) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for record in world.read("task-events") {
        let id = record.json()["message"]["taskId"]
            .as_str()
            .expect("an id")
            .to_owned();
        *counts.entry(id).or_default() += 1;
    }
    counts
}

fn build(world: &World, states: &[State]) {
    let (topic, mut offsets) = (world.topic(TOPIC), BTreeMap::new());
    for (partition, state) in (0..).zip(states) {
        let here = format!("topic = '{topic}' AND partition = {partition}");
        let frames: Vec<String> = state.frames.iter().map(i64::to_string).collect();
        let left = match frames.is_empty() {
            true => "0".to_owned(),
            false => frames.join(", "),
        };
        world.execute(&format!(
            "DELETE FROM outbox WHERE {here} AND batch NOT IN ({left})"
        ));
        match state.row {
            Row::Kept => {}
            Row::Set(columns) => {
                world.execute(&format!("UPDATE progress SET {columns} WHERE {here}"))
            }
            Row::Lost => world.execute(&format!("DELETE FROM progress WHERE {here}")),
        }
        match state.offset {
            Committed::Kept => {}
            Committed::Gone => drop(offsets.insert((topic.clone(), partition), None)),
            Committed::At(offset, metadata) => {
                let metadata = metadata.to_owned();
                let moved = Some(Watermark { offset, metadata });
                offsets.insert((topic.clone(), partition), moved);
            }
        }
        if state.what == UNREADABLE {
            world.execute(&format!(
                "UPDATE outbox SET frame = '\\xff00' WHERE {here} AND batch = 2"
            ));
        }
        if state.what == RETENTION {
            world.delete_records(TOPIC, partition, RECORDS + 1);
        }
    }
    world.move_offsets(|committed| committed.extend(offsets));
}

#[test]
fn each_state_of_progress_and_watermark_goes_on_with_what_is_owed_or_halts() {
    let states = states();
    let partitions = i32::try_from(states.len()).expect("a small number");
    let world = World::bare();
    world.create_topic(TOPIC, partitions);
    world.create_topic("requests-web-crawl", 1);
    world.install("web_crawl", "web_crawl");
    world.install("task_status", "task_status");
    // Nothing is assumed about where a partition starts that was never started.
    let host = world.host().env("KAFKA_AUTO_OFFSET_RESET", "latest");
    let first = host.clone().start();
    world.wait_caught_up();
    // Frames are kept, to be owed again.
    world.execute("CREATE RULE kept AS ON DELETE TO outbox DO INSTEAD NOTHING");
    for offset in 0..RECORDS {
        send_round(&world, partitions, offset);
        world.wait_caught_up();
    }
    first.stop();
    world.execute("DROP RULE kept ON outbox");
    for partition in 0..partitions {
        let row = row(&world, partition).expect("its row");
        assert_eq!(
            (row.batch, row.next_offset),
            (RECORDS, Some(RECORDS)),
            "{partition}"
        );
    }
    for offset in [RECORDS, RECORDS + 1] {
        send_round(&world, partitions, offset);
    }
    let before = world.progress();
    build(&world, &states);
    let built = world.progress();
    assert_ne!(before, built);

    let host = host.start();
    for (partition, state) in (0..).zip(&states) {
        match state.then {
            GoesOn(_, from) => goes_on(&world, partition, state, from),
            Halts(code) => halts(&world, &host, TOPIC, partition, code, state.what),
        }
    }
    check_published(&world, &states, &built);
    let halted = states
        .iter()
        .filter(|state| matches!(state.then, Halts(_)))
        .count();
    let health = host.get("/api/health/detailed");
    assert_eq!(health.status, 503);
    assert_eq!(
        health.json()["details"]["partitions"]["halts"],
        json!(halted)
    );
    host.stop();
}

/// What was owed is published again and nothing else, and where a partition halts nothing moves.
fn check_published(world: &World, states: &[State], built: &[ProgressRow]) {
    let counts = published(world);
    for (partition, state) in (0..).zip(states) {
        let count = |offset: i64| counts.get(&id(partition, offset)).copied().unwrap_or(0);
        for offset in 0..RECORDS {
            let again = matches!(state.then, GoesOn(owed, _) if owed.contains(&(offset + 1)));
            assert_eq!(
                count(offset),
                1 + usize::from(again),
                "{}: {offset}",
                state.what
            );
        }
        let decided = usize::from(matches!(state.then, GoesOn(..)));
        assert_eq!(
            (count(RECORDS), count(RECORDS + 1)),
            (decided, decided),
            "{}: the records after it",
            state.what
        );
        if matches!(state.then, Halts(_)) {
            let old = built
                .iter()
                .find(|old| old.partition == partition && old.topic == world.topic(TOPIC));
            let now = row(world, partition);
            let place =
                |row: &ProgressRow| (row.next_offset, row.batch, row.published, row.consumed);
            let started = old.map(place).unwrap_or((None, 0, None, 0));
            assert_eq!(
                now.as_ref().map(place),
                Some(started),
                "{}: nothing moves",
                state.what
            );
        }
    }
}

/// The partition decides all that was left of it and publishes it.
fn goes_on(world: &World, partition: i32, state: &State, from: i64) {
    let last = RECORDS + 2;
    let consumed_before = match state.row {
        Row::Lost => 0,
        _ => RECORDS,
    };
    let key = (world.topic(TOPIC), partition);
    let row = soon(state.what, || {
        let row = row(world, partition).filter(|row| row.next_offset == Some(last))?;
        let watermark = world.watermarks().remove(&key).flatten()?;
        (watermark.batch() == Some(row.batch) && watermark.offset == last).then_some(row)
    });
    assert_eq!(
        row.consumed,
        consumed_before + last - from,
        "{}",
        state.what
    );
}

/// The partition stops, and health, metric and log say why by its code.
pub(crate) fn halts(
    world: &World,
    host: &Host,
    logical: &str,
    partition: i32,
    code: &str,
    what: &str,
) {
    let topic = world.topic(logical);
    let is_here = |value: &Value| {
        (value["topic"].as_str(), value["partition"].as_i64())
            == (Some(topic.as_str()), Some(i64::from(partition)))
    };
    let shown = soon(what, || {
        let health = host.get("/api/health/detailed").json();
        let all = health["details"]["partitions"]["partitions"]
            .as_array()?
            .clone();
        all.into_iter()
            .find(|one| is_here(one) && one["state"] == "halted")
    });
    assert!(
        shown.to_string().contains(code),
        "{what}: {shown} has {code}"
    );
    let number = partition.to_string();
    let labels = [("topic", topic.as_str()), ("partition", &number)];
    soon("the metric says so", || {
        (host.metric("taskhost_partition_halted", &labels) == Some(1.0)).then_some(())
    });
    let lines = host.log_lines();
    let said = lines
        .iter()
        .any(|line| line["level"] == "ERROR" && is_here(line) && line.to_string().contains(code));
    assert!(said, "{what}: the log has an error with {code}");
}
