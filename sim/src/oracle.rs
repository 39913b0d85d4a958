//! What must hold once a world has come to rest. The oracle compares what went in with what came out, by the laws and not by the
//! code's rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use taskhost::store::State;
use taskhost_core::record::{Position, TopicPartition};
use taskhost_core::task::{TaskEvent, TaskId};
use taskhost_core::watermark::Watermark;

use crate::broker::Cluster;
use crate::ledger::Tables;
use crate::rules::{self, EVENTS, OUTPUT};

/// A record that went in.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) at: Position,
    pub(crate) task: String,
    pub(crate) asked: &'static str,
}

/// What keeps a world from being at rest; nothing if it is.
pub(crate) fn unrest(
    tables: &Tables,
    cluster: &Cluster,
    partitions: &[TopicPartition],
) -> Vec<String> {
    let mut found = Vec::new();
    for (key, row) in &tables.progress {
        let partition = &key.partition;
        if let Some(halt) = &row.halted {
            found.push(format!("{partition} stands still: {halt}"));
        }
        let (_, end) = cluster.bounds(partition);
        if row.at.next_offset != Some(end) {
            let next = row.at.next_offset;
            found.push(format!("{partition} is decided up to {next:?} of {end}"));
        }
        let watermark = cluster.committed(partition);
        let expected = Watermark::Ours(row.at.mark(row.at.next_offset.unwrap_or(-1)));
        if watermark != Some(expected) {
            found.push(format!(
                "{partition} is published up to {watermark:?}, and decided up to {expected:?}"
            ));
        }
    }
    if tables.progress.len() < partitions.len() {
        found.push("not every partition was taken".to_owned());
    }
    for (key, row) in tables.rows.values() {
        let (partition, kind, why, due) = (&key.partition, row.kind, row.why, row.due);
        let (task, rank) = (&row.task_id, row.rank);
        found.push(format!(
            "{partition}: {kind:?} of {task} at {rank:?} waits for {why:?} until {due:?}"
        ));
    }
    found
}

/// Everything that breaks a law.
pub(crate) fn check(tables: &Tables, cluster: &Cluster, inputs: &[Input]) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(check_counts(tables, inputs));
    found.extend(check_outcomes(tables, inputs));
    found.extend(check_histories(tables));
    found.extend(check_order(tables, inputs));
    found.extend(check_messages(tables, cluster));
    let outdated = tables.outdated.iter();
    found.extend(outdated.map(|event| format!("law 5: {event}")));
    found
}

/// Law 1, in numbers: each record counts once.
fn check_counts(tables: &Tables, inputs: &[Input]) -> Vec<String> {
    let mut found = Vec::new();
    for (key, row) in &tables.progress {
        let of = |input: &&Input| {
            (&input.at.topic, input.at.partition) == (&key.partition.topic, key.partition.partition)
        };
        let records = u64::try_from(inputs.iter().filter(of).count()).unwrap_or(0);
        let counts = row.counts;
        let ended = counts.applied + counts.ignored + counts.deferred + counts.dead_letters;
        let consumed = ended.checked_sub(counts.left_waiting + counts.left_dead_letters);
        if consumed != Some(records) || counts.deferred != counts.left_waiting {
            let partition = &key.partition;
            found.push(format!(
                "law 1: {partition} had {records} records: {counts:?}"
            ));
        }
    }
    found
}

/// Laws 1 and 2: each record is applied once, or is a dead letter, or changed nothing.
fn check_outcomes(tables: &Tables, inputs: &[Input]) -> Vec<String> {
    let mut applied: BTreeMap<(String, i32, i64), u32> = BTreeMap::new();
    for event in tables.events.iter().filter(|event| !is_fired(event)) {
        *applied.entry(place(&event.cause)).or_default() += 1;
    }
    let mut letters: BTreeMap<(String, i32, i64), State> = BTreeMap::new();
    for letter in tables.letters.values() {
        let position = &letter.stored.letter.message.position;
        letters.insert(place(position), letter.stored.state);
    }
    let mut found = Vec::new();
    for input in inputs {
        let applied = applied.get(&place(&input.at)).copied().unwrap_or(0);
        let letter = letters.get(&place(&input.at)).copied();
        let is_over = !matches!(letter, Some(State::Applied));
        let is_right = match input.asked {
            "reject" | "garbage" | "fault" | "slow" => applied == 0 && letter.is_some(),
            "ignore" => applied == 0 && letter.is_none(),
            "step" | "wait" => match letter {
                Some(state) => applied == u32::from(state == State::Applied),
                None => applied == 1,
            },
            _ => applied <= 1 && (applied == 0 || letter.is_none() || !is_over),
        };
        if !is_right {
            let Input { at, asked, task } = input;
            found.push(format!(
                "law 2: {asked} of {task} at {at} was applied {applied} times, dead letter {letter:?}"
            ));
        }
    }
    found
}

/// Law 2: the history of each task is without gaps, each change was made on the one before, and the row is the last one.
fn check_histories(tables: &Tables) -> Vec<String> {
    let mut found = Vec::new();
    for (id, history) in histories(tables) {
        let mut data: Option<String> = None;
        for (number, event) in history.iter().enumerate() {
            let expected = i64::try_from(number).unwrap_or(0) + 1;
            if event.version != expected {
                found.push(format!(
                    "law 2: {id} has version {} where {expected} is expected",
                    event.version
                ));
                break;
            }
            let linked = rules::linked(data.as_deref(), &event.cause, &said(event, "asked"));
            if said(event, "data") != linked {
                let (at, version) = (&event.cause, event.version);
                found.push(format!(
                    "law 2: version {version} of {id}, by {at}, was not made of the one before"
                ));
            }
            data = Some(said(event, "data"));
        }
        let last = history.last().map(|event| event.version);
        let row = tables.tasks.get(&id);
        if row.map(|task| task.version) != last || row.map(|task| task.data.to_string()) != data {
            found.push(format!(
                "law 2: the row of {id} is not what its history makes it"
            ));
        }
    }
    found
}

/// Law 4: what one partition has for a task takes effect in the order of its offsets, but for what was a dead letter, and for
/// what waited for the task to be created.
fn check_order(tables: &Tables, inputs: &[Input]) -> Vec<String> {
    let letters = tables.letters.values();
    let letters: BTreeSet<_> = letters
        .map(|letter| place(&letter.stored.letter.message.position))
        .collect();
    let known: BTreeSet<_> = inputs.iter().map(|input| place(&input.at)).collect();
    let mut found = Vec::new();
    for (id, history) in histories(tables) {
        let mut last: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for event in history {
            let at = place(&event.cause);
            if is_fired(event) || letters.contains(&at) || !known.contains(&at) {
                continue;
            }
            let (topic, partition, offset) = at;
            let before = last.entry((topic, partition)).or_insert(-1);
            if *before > offset {
                let cause = &event.cause;
                found.push(format!("law 4: {id}: {cause} took effect after {before}"));
            }
            // The creation overtakes what waits for it.
            if event.version > 1 {
                *before = (*before).max(offset);
            }
        }
    }
    found
}

/// Law 2: a reader of the output topics sees each message once.
fn check_messages(tables: &Tables, cluster: &Cluster) -> Vec<String> {
    let mut found = Vec::new();
    let mut sent: BTreeMap<(String, i64), u32> = BTreeMap::new();
    for record in cluster.read(OUTPUT) {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        let body: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default())
            .unwrap_or(Value::Null);
        let version = body["version"].as_i64();
        let version = version.or_else(|| body["message"]["version"].as_i64());
        *sent.entry((key, version.unwrap_or(-1))).or_default() += 1;
    }
    for event in &tables.events {
        let message = (event.task_id.to_string(), event.version);
        match sent.remove(&message) {
            Some(1) => {}
            times => {
                let times = times.unwrap_or(0);
                found.push(format!(
                    "law 2: the message of {} was sent {times} times",
                    event.id()
                ));
            }
        }
    }
    let unknown = sent.keys();
    found.extend(unknown.map(|(task, version)| {
        format!("law 2: a message of {task}, version {version}, was sent that nothing in the history sends")
    }));
    let told = cluster.read(EVENTS).len();
    if told != tables.events.len() {
        let events = tables.events.len();
        found.push(format!("law 2: {told} records of {events} task events"));
    }
    found
}

fn histories(tables: &Tables) -> BTreeMap<TaskId, Vec<&TaskEvent>> {
    let mut histories: BTreeMap<TaskId, Vec<&TaskEvent>> = BTreeMap::new();
    for event in &tables.events {
        histories
            .entry(event.task_id.clone())
            .or_default()
            .push(event);
    }
    histories
        .values_mut()
        .for_each(|history| history.sort_by_key(|event| event.version));
    histories
}

/// Whether a timer made it.
fn is_fired(event: &TaskEvent) -> bool {
    said(event, "asked") == "fired"
}

/// What the rule said about a change.
fn said(event: &TaskEvent, field: &str) -> String {
    let said: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
    said[field].as_str().unwrap_or_default().to_owned()
}

fn place(position: &Position) -> (String, i32, i64) {
    (
        position.topic.to_string(),
        position.partition,
        position.offset,
    )
}
