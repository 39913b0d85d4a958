//! Carries out a write set: one statement for each table, however many rows.

use taskhost_core::batch::{Wakeup, WriteSet};
use taskhost_core::dead_letter::{DeadLetter, Stage};
use taskhost_core::record::Header;
use taskhost_core::task::{Task, TaskEvent};
use uuid::Uuid;

use super::Key;
use super::error::Error;
use super::keyed::keyed;
use super::millis::Millis;
use super::open::Batch;
use super::schema::Statement;
use super::session::Session;

/// In id order, which is the order of the array: creations of two batches then wait for each other in one
/// direction only.
const CREATE: &str = "
INSERT INTO taskhost.tasks (id, type, status, data, version, created_at, updated_at)
SELECT id, type, status, data::json, version, created_at, updated_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
    AS new (id, type, status, data, version, created_at, updated_at)
ON CONFLICT DO NOTHING";

const UPDATE: &str = "
UPDATE taskhost.tasks SET status = new.status, data = new.data::json, version = new.version, updated_at = new.updated_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::bigint[])
    AS new (id, status, data, version, updated_at, seen)
WHERE tasks.id = new.id AND tasks.version = new.seen";

const EVENTS: &str = "
INSERT INTO taskhost.task_events (task_id, version, number, kind, from_status, to_status, data, at,
    cause_topic, cause_partition, cause_offset, cause, trace_id, foreign_trace_id, decider, attempt, seed)
SELECT task_id, version, number, kind, from_status, to_status, data::json, at,
    cause_topic, cause_partition, cause_offset, cause, trace_id, foreign_trace_id, decider, attempt, seed
FROM unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[],
    $9::text[], $10::int[], $11::bigint[], $12::bytea[], $13::text[], $14::text[], $15::int[], $16::int[], $17::uuid[])
    AS new (task_id, version, number, kind, from_status, to_status, data, at,
        cause_topic, cause_partition, cause_offset, cause, trace_id, foreign_trace_id, decider, attempt, seed)";

const DONE: &str = "
DELETE FROM taskhost.wakeups
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND id = ANY ($4)";

/// Whoever owns it: a task has one timer of a name.
const UNSET: &str = "
DELETE FROM taskhost.wakeups USING unnest($1::text[], $2::text[]) AS old (task_id, name)
WHERE kind = 'timer' AND wakeups.task_id = old.task_id AND wakeups.name = old.name AND wakeups.task_id = ANY ($1)";

const WAKEUPS: &str = "
INSERT INTO taskhost.wakeups (group_id, topic, partition, id, kind, task_id, name, route, due, sequence, attempt, since,
    reason, cause, why, tries, since_worked, place, counts_from)
SELECT $1, $2, $3, new.*
FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::bigint[], $11::int[],
    $12::timestamptz[], $13::text[], $14::bytea[], $15::text[], $16::int[], $17::bigint[], $18::bigint[],
    $19::timestamptz[]) AS new";

const POSTPONE: &str = "
UPDATE taskhost.wakeups SET due = new.due, counts_from = new.due, attempt = new.attempt, reason = new.reason, why = new.why,
    tries = new.tries, since_worked = new.since_worked, task_id = new.task_id
FROM unnest($4::uuid[], $5::timestamptz[], $6::int[], $7::text[], $8::text[], $9::int[], $10::bigint[], $11::text[])
    AS new (id, due, attempt, reason, why, tries, since_worked, task_id)
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND wakeups.id = new.id AND wakeups.id = ANY ($4)";

/// What is due and blocked waits for its turn.
const TURN: &str = "
UPDATE taskhost.wakeups SET why = 'turn', due = NULL, counts_from = NULL
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND id = ANY ($4) AND kind = 'deferred'";

/// A statement that stores dead letters, and what it does about those that are there.
macro_rules! insert_letters {
    ($more:literal) => {
        concat!(
            "INSERT INTO taskhost.dead_letters (group_id, topic, partition, id, record_topic, record_partition, record_offset, \
             record_timestamp, key, value, headers, code, reason, backtrace, stage, attempts, task_id, route, \
             plugin_name, plugin_version, plugin_digest, failed_at, source, replays, imported, sequence, holds) \
             SELECT $1, $2, $3, id, record_topic, record_partition, record_offset, record_timestamp, key, value, \
             headers::json, code, reason, backtrace, stage, attempts, task_id, route, plugin_name, plugin_version, \
             plugin_digest, failed_at, source, replays, imported, sequence, holds \
             FROM unnest($4::uuid[], $5::text[], $6::int[], $7::bigint[], $8::bigint[], $9::bytea[], $10::bytea[], \
             $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int[], $17::text[], $18::text[], \
             $19::text[], $20::text[], $21::text[], $22::timestamptz[], $23::text[], $24::int[], $25::text[], \
             $26::bigint[], $27::bool[]) \
             AS new (id, record_topic, record_partition, record_offset, record_timestamp, key, value, headers, code, \
             reason, backtrace, stage, attempts, task_id, route, plugin_name, plugin_version, plugin_digest, \
             failed_at, source, replays, imported, sequence, holds)",
            $more
        )
    };
}

/// A record that was given up before is decided once more after a reset to an earlier place: its dead letter has the same
/// id, tells what is wrong now, and is open again unless a replay is under way.
const DEAD_LETTERS: &str = insert_letters!(
    " ON CONFLICT (group_id, id) DO UPDATE SET code = EXCLUDED.code, reason = EXCLUDED.reason, \
     backtrace = EXCLUDED.backtrace, stage = EXCLUDED.stage, attempts = EXCLUDED.attempts, task_id = EXCLUDED.task_id, \
     route = EXCLUDED.route, plugin_name = EXCLUDED.plugin_name, plugin_version = EXCLUDED.plugin_version, \
     plugin_digest = EXCLUDED.plugin_digest, failed_at = EXCLUDED.failed_at, \
     sequence = EXCLUDED.sequence, holds = EXCLUDED.holds, state_at = now(), \
     state = CASE WHEN dead_letters.wakeup IS NULL THEN 'open' ELSE dead_letters.state END"
);

/// What is there already stays as it is.
const IMPORT: &str = insert_letters!(" ON CONFLICT DO NOTHING");

/// One array of each row's value.
pub(super) fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

pub(super) fn rows(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Updates before creations: the order of the locks.
pub(super) async fn tasks(batch: &mut Batch, set: &WriteSet) -> Result<(), Error> {
    update(batch, &set.updated).await?;
    create(batch, &set.created).await
}

async fn update(batch: &mut Batch, tasks: &[Task]) -> Result<(), Error> {
    if tasks.is_empty() {
        return Ok(());
    }
    // A task that was not locked has no version here, and so no row that fits.
    let seen = column(tasks, |task| batch.versions.get(&task.id).copied());
    let statement = sqlx::query(UPDATE)
        .bind(column(tasks, |task| task.id.as_str()))
        .bind(column(tasks, |task| &*task.status))
        .bind(column(tasks, |task| &*task.data))
        .bind(column(tasks, |task| task.version))
        .bind(column(tasks, |task| Millis(task.updated_at)))
        .bind(seen);
    let found = batch.session.execute(statement).await?;
    expect(batch, "updated tasks", rows(tasks.len()), found)
}

async fn create(batch: &mut Batch, tasks: &[Task]) -> Result<(), Error> {
    if tasks.is_empty() {
        return Ok(());
    }
    debug_assert!(
        tasks.is_sorted_by(|a, b| a.id < b.id),
        "creations in no order deadlock"
    );
    let statement = sqlx::query(CREATE)
        .bind(column(tasks, |task| task.id.as_str()))
        .bind(column(tasks, |task| &*task.kind))
        .bind(column(tasks, |task| &*task.status))
        .bind(column(tasks, |task| &*task.data))
        .bind(column(tasks, |task| task.version))
        .bind(column(tasks, |task| Millis(task.created_at)))
        .bind(column(tasks, |task| Millis(task.updated_at)));
    let created = batch.session.execute(statement).await?;
    let expected = rows(tasks.len());
    match expected.saturating_sub(created) {
        0 => Ok(()),
        missing => batch
            .session
            .fail(Error::CreationRaced { expected, missing }),
    }
}

pub(super) async fn events(batch: &mut Batch, events: &[TaskEvent]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let deciders = batch.store.number_deciders(events).await?;
    let statement = sqlx::query(EVENTS)
        .bind(column(events, |event| event.task_id.as_str()))
        .bind(column(events, |event| event.version))
        .bind(column(events, |event| event.number))
        .bind(column(events, |event| event.kind.as_str()))
        .bind(column(events, |event| event.from.as_deref()))
        .bind(column(events, |event| &*event.to))
        .bind(column(events, |event| event.data.as_str()))
        .bind(column(events, |event| Millis(event.at)))
        .bind(column(events, |event| &*event.cause.topic))
        .bind(column(events, |event| event.cause.partition))
        .bind(column(events, |event| event.cause.offset))
        .bind(column(events, |event| &*event.cause_bytes))
        .bind(column(events, |event| event.trace_id.as_str()))
        .bind(column(events, |event| event.foreign_trace_id.as_deref()))
        .bind(deciders)
        .bind(column(events, |event| {
            event.basis.as_ref().map(|basis| basis.attempt)
        }))
        .bind(column(events, |event| {
            event.basis.as_ref().map(|basis| basis.seed)
        }));
    let found = batch.session.execute(statement).await?;
    expect(batch, "task events", rows(events.len()), found)
}

/// Removals first, so that a new timer finds its name free.
pub(super) async fn wakeups(batch: &mut Batch, set: &WriteSet) -> Result<(), Error> {
    done(batch, &set.done).await?;
    if !set.timers.is_empty() {
        let (tasks, names): (Vec<&str>, Vec<&str>) = set
            .timers
            .keys()
            .map(|(task, name)| (task.as_str(), name.as_str()))
            .unzip();
        let statement = sqlx::query(UNSET).bind(tasks).bind(names);
        batch.session.execute(statement).await?;
    }
    let timers = set.timers.values().flatten();
    let new: Vec<&Wakeup> = set.waiting.iter().chain(timers).collect();
    insert(batch, &new).await?;
    let postponed = &set.postponed;
    if !postponed.is_empty() {
        let statement = keyed(POSTPONE, &batch.key)
            .bind(column(postponed, |wakeup| wakeup.id))
            .bind(column(postponed, |wakeup| Millis(wakeup.due)))
            .bind(column(postponed, |wakeup| wakeup.attempt))
            .bind(column(postponed, |wakeup| wakeup.reason.as_str()))
            .bind(column(postponed, |wakeup| wakeup.why.name()))
            .bind(column(postponed, |wakeup| wakeup.tries))
            .bind(column(postponed, |wakeup| wakeup.since_worked))
            .bind(column(postponed, |wakeup| wakeup.task_id.as_str()));
        let found = batch.session.execute(statement).await?;
        expect(batch, "postponed wakeups", rows(postponed.len()), found)?;
    }
    if !set.turned.is_empty() {
        let ids: Vec<Uuid> = set.turned.iter().copied().collect();
        batch
            .session
            .execute(keyed(TURN, &batch.key).bind(ids))
            .await?;
    }
    Ok(())
}

async fn done(batch: &mut Batch, ids: &[Uuid]) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let statement = keyed(DONE, &batch.key).bind(ids);
    let removed = batch.session.execute(statement).await?;
    expect(batch, "wakeups that are done", rows(ids.len()), removed)
}

async fn insert(batch: &mut Batch, new: &[&Wakeup]) -> Result<(), Error> {
    if new.is_empty() {
        return Ok(());
    }
    let statement = keyed(WAKEUPS, &batch.key)
        .bind(column(new, |wakeup| wakeup.id))
        .bind(column(new, |wakeup| wakeup.kind.name()))
        .bind(column(new, |wakeup| wakeup.task_id.as_str()))
        .bind(column(new, |wakeup| wakeup.name.as_deref()))
        .bind(column(new, |wakeup| wakeup.route.as_str()))
        .bind(column(new, |wakeup| wakeup.due.map(Millis)))
        .bind(column(new, |wakeup| wakeup.rank.sequence))
        .bind(column(new, |wakeup| wakeup.attempt))
        .bind(column(new, |wakeup| Millis(wakeup.since)))
        .bind(column(new, |wakeup| wakeup.reason.as_str()))
        .bind(column(new, |wakeup| wakeup.cause.as_slice()))
        .bind(column(new, |wakeup| wakeup.why.name()))
        .bind(column(new, |wakeup| wakeup.tries))
        .bind(column(new, |wakeup| wakeup.since_worked))
        .bind(column(new, |wakeup| wakeup.rank.place))
        .bind(column(new, |wakeup| wakeup.counts_from.map(Millis)));
    let found = batch.session.execute(statement).await?;
    expect(batch, "new wakeups", rows(new.len()), found)
}

pub(super) async fn dead_letters(batch: &mut Batch, letters: &[DeadLetter]) -> Result<(), Error> {
    if letters.is_empty() {
        return Ok(());
    }
    let found = insert_dead_letters(&mut batch.session, &batch.key, letters).await?;
    expect(batch, "dead letters", rows(letters.len()), found)
}

/// Stores dead letters of a partition and says how many rows that made.
pub(super) async fn insert_dead_letters(
    session: &mut Session,
    key: &Key,
    letters: &[DeadLetter],
) -> Result<u64, Error> {
    let letters: Vec<&DeadLetter> = letters.iter().collect();
    let nowhere = vec![None; letters.len()];
    session
        .execute(letters_statement(DEAD_LETTERS, key, &letters, nowhere))
        .await
}

/// Stores dead letters that come from elsewhere, each with where from, and says how many are new.
pub(super) async fn import_dead_letters(
    session: &mut Session,
    key: &Key,
    letters: &[(&DeadLetter, String)],
) -> Result<u64, Error> {
    let (letters, from): (Vec<&DeadLetter>, Vec<Option<String>>) = letters
        .iter()
        .map(|(letter, from)| (*letter, Some(from.clone())))
        .unzip();
    session
        .execute(letters_statement(IMPORT, key, &letters, from))
        .await
}

fn letters_statement<'q>(
    sql: &'static str,
    key: &'q Key,
    letters: &[&'q DeadLetter],
    imported: Vec<Option<String>>,
) -> Statement<'q> {
    let plugin = |letter: &DeadLetter| letter.plugin.clone();
    keyed(sql, key)
        .bind(column(letters, |letter| letter.id))
        .bind(column(letters, |letter| {
            letter.message.position.topic.to_string()
        }))
        .bind(column(letters, |letter| letter.message.position.partition))
        .bind(column(letters, |letter| letter.message.position.offset))
        .bind(column(letters, |letter| letter.message.timestamp))
        .bind(column(letters, |letter| letter.message.key.clone()))
        .bind(column(letters, |letter| letter.message.value.clone()))
        .bind(column(letters, |letter| headers(&letter.message.headers)))
        .bind(column(letters, |letter| letter.code.clone()))
        .bind(column(letters, |letter| letter.reason.clone()))
        .bind(column(letters, |letter| letter.backtrace.clone()))
        .bind(column(letters, |letter| stage(letter.stage)))
        .bind(column(letters, |letter| letter.attempts))
        .bind(column(letters, |letter| {
            letter.task_id.as_ref().map(ToString::to_string)
        }))
        .bind(column(letters, |letter| letter.route.clone()))
        .bind(column(letters, |letter| {
            plugin(letter).map(|it| it.name.clone())
        }))
        .bind(column(letters, |letter| {
            plugin(letter).map(|it| it.version.clone())
        }))
        .bind(column(letters, |letter| {
            plugin(letter).map(|it| it.digest.clone())
        }))
        .bind(column(letters, |letter| Millis(letter.failed_at)))
        .bind(column(letters, |letter| letter.source.name()))
        .bind(column(letters, |letter| letter.replays))
        .bind(imported)
        .bind(column(letters, |letter| letter.sequence))
        .bind(column(letters, |letter| letter.holds))
}

/// The stage's stored name.
pub(super) fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Decode => "decode",
        Stage::Decide => "decide",
        Stage::Publish => "publish",
    }
}

/// Headers as people read them: `{"name", "text"}`, or `{"name", "hex"}` if the value is no UTF-8, or `{"name"}` if
/// it is null.
pub(super) fn headers(headers: &[Header]) -> String {
    let header = |(name, value): &Header| match value.as_deref().map(|it| (it, str::from_utf8(it)))
    {
        None => serde_json::json!({"name": name}),
        Some((_, Ok(text))) => serde_json::json!({"name": name, "text": text}),
        Some((bytes, Err(_))) => serde_json::json!({"name": name, "hex": hex::encode(bytes)}),
    };
    serde_json::Value::Array(headers.iter().map(header).collect()).to_string()
}

pub(super) fn expect(
    batch: &mut Batch,
    what: &'static str,
    expected: u64,
    found: u64,
) -> Result<(), Error> {
    match expected == found {
        true => Ok(()),
        false => batch.session.fail(Error::Inconsistent {
            what,
            expected,
            found,
        }),
    }
}
