//! The one call that commits a batch: what `taskhost_commit_1` takes (migrations/0014), and how large it may be.

use serde_json::{Value, json};
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::types::Json;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Type};
use taskhost_core::batch::{Wakeup, WriteSet};
use taskhost_core::dead_letter::DeadLetter;
use taskhost_core::frame::Frame;
use taskhost_core::replay::{End, Replayed};
use taskhost_core::task::{Task, TaskEvent, TaskId};

use super::Key;
use super::commitment::{Commitment, Seen};
use super::error::Error;
use super::millis::Millis;
use super::schema::Statement;
use super::versions;
use super::write::{column, headers, stage};

/// Texts and bytes of one call at most. Postgres holds what it is sent several times over: 61 MiB of arrays took 312 MiB
/// of a backend. The other columns of a row have less than 1 KiB.
const BYTES_MAX: usize = 32 << 20;

/// A call, with its arguments by name.
#[derive(Default)]
pub(super) struct Call {
    names: String,
    arguments: PgArguments,
    count: usize,
    /// Of all texts and bytes.
    bytes: usize,
}

/// The call that commits a batch, and its frame. `deciders` are the numbers of its events' deciders.
///
/// # Errors
/// [`Error::TooLarge`], or [`Error::Unstorable`] for a value without a form in Postgres.
pub(super) fn of(
    key: &Key,
    commitment: Commitment<'_>,
    deciders: &[Option<i32>],
) -> Result<(Call, Frame), Error> {
    let (_, left) = commitment.owner;
    let commitment = Commitment {
        frame: Frame {
            batch: left.batch + 1,
            ..commitment.frame
        },
        ..commitment
    };
    let mut call = Call::default();
    call.progress(key, &commitment)?;
    call.updated(commitment.set, &commitment.seen)?;
    call.seen(commitment.set, &commitment.seen)?;
    call.created(&commitment.set.created)?;
    call.events(&commitment.set.events, deciders)?;
    call.wakeups(commitment.set)?;
    call.rare(&commitment)?;
    match call.bytes {
        bytes if bytes > BYTES_MAX => Err(Error::TooLarge {
            bytes,
            max: BYTES_MAX,
        }),
        _ => Ok((call, commitment.frame)),
    }
}

impl Call {
    pub(super) fn statement(self) -> Statement<'static> {
        let sql = format!("SELECT taskhost.taskhost_commit_1({})", self.names);
        sqlx::query_with(AssertSqlSafe(sql), self.arguments)
    }

    /// An argument of a fixed size, or an array of such.
    fn with<'t, T>(&mut self, name: &str, value: T) -> Result<(), Error>
    where
        T: Encode<'t, Postgres> + Type<Postgres>,
    {
        let added = self.arguments.add(value);
        added.map_err(|error| Error::Unstorable(sqlx::Error::Encode(error)))?;
        self.count += 1;
        let comma = if self.count > 1 { ", " } else { "" };
        self.names
            .push_str(&format!("{comma}{name} => ${}", self.count));
        Ok(())
    }

    fn texts(&mut self, name: &str, values: Vec<&str>) -> Result<(), Error> {
        self.bytes += values.iter().map(|value| value.len()).sum::<usize>();
        self.with(name, values)
    }

    fn optional_texts(&mut self, name: &str, values: Vec<Option<&str>>) -> Result<(), Error> {
        self.bytes += values.iter().flatten().map(|it| it.len()).sum::<usize>();
        self.with(name, values)
    }

    fn blobs(&mut self, name: &str, values: Vec<&[u8]>) -> Result<(), Error> {
        self.bytes += values.iter().map(|value| value.len()).sum::<usize>();
        self.with(name, values)
    }

    fn optional_blobs(&mut self, name: &str, values: Vec<Option<&[u8]>>) -> Result<(), Error> {
        self.bytes += values.iter().flatten().map(|it| it.len()).sum::<usize>();
        self.with(name, values)
    }

    fn progress(&mut self, key: &Key, commitment: &Commitment<'_>) -> Result<(), Error> {
        let (epoch, left) = commitment.owner;
        self.with("my_group", &*key.group)?;
        self.with("my_topic", &*key.partition.topic)?;
        self.with("my_partition", key.partition.partition)?;
        self.with("my_epoch", epoch)?;
        self.with("seen_batch", left.batch)?;
        self.with("from_offset", left.next_offset)?;
        self.with("last_token", left.token)?;
        self.with("new_token", commitment.token)?;
        self.with("to_offset", commitment.frame.next_offset)?;
        let frame = commitment.frame.encode();
        self.bytes += frame.len();
        self.with("new_frame", frame)?;
        self.with("known_published", commitment.published)?;
        self.with("new_worked", commitment.worked)?;
        self.with("at_time", Millis(commitment.now))?;
        let counts = &commitment.set.counts;
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.with("n_consumed", count(counts.consumed()))?;
        self.with("n_applied", count(counts.applied))?;
        self.with("n_ignored", count(counts.ignored))?;
        self.with("n_deferred", count(counts.deferred))?;
        let letters = count(counts.dead_letters) - count(counts.left_dead_letters);
        self.with("n_dead_letters", letters)?;
        self.with("n_timers", count(counts.timers))
    }

    fn updated(&mut self, set: &WriteSet, seen: &Seen<'_>) -> Result<(), Error> {
        let tasks = &set.updated;
        debug_assert!(is_in_order(tasks), "updates in no order deadlock");
        self.texts("u_ids", column(tasks, |task| task.id.as_str()))?;
        // A task that was not read has no version, and so no row that fits.
        let versions = column(tasks, |task| seen.tasks.get(&task.id).copied());
        self.with("u_seen", versions)?;
        self.texts("u_status", column(tasks, |task| &*task.status))?;
        self.texts("u_data", column(tasks, |task| &*task.data))?;
        self.with("u_version", column(tasks, |task| task.version))?;
        let updated_at = column(tasks, |task| Millis(task.updated_at));
        self.with("u_updated_at", updated_at)
    }

    /// The rows that were decided, the timers that are set or cancelled, and the activations that decided.
    fn seen(&mut self, set: &WriteSet, seen: &Seen<'_>) -> Result<(), Error> {
        self.with("seen_rows", seen.rows.to_vec())?;
        let timers = set.timers.keys();
        let (tasks, names) = timers
            .map(|(task, name)| (task.as_str(), name.as_str()))
            .unzip();
        self.texts("t_tasks", tasks)?;
        self.texts("t_names", names)?;
        let mut routes = seen.activations.to_vec();
        routes.sort_unstable();
        let keys = column(&routes, |(name, _)| versions::lock_key(name));
        self.with("r_keys", keys)?;
        self.texts("r_names", column(&routes, |(name, _)| *name))?;
        self.with("r_numbers", column(&routes, |(_, number)| *number))
    }

    fn created(&mut self, tasks: &[Task]) -> Result<(), Error> {
        debug_assert!(is_in_order(tasks), "creations in no order deadlock");
        self.texts("c_ids", column(tasks, |task| task.id.as_str()))?;
        self.texts("c_types", column(tasks, |task| &*task.kind))?;
        self.texts("c_status", column(tasks, |task| &*task.status))?;
        self.texts("c_data", column(tasks, |task| &*task.data))?;
        self.with("c_version", column(tasks, |task| task.version))?;
        let created_at = column(tasks, |task| Millis(task.created_at));
        self.with("c_created_at", created_at)?;
        let updated_at = column(tasks, |task| Millis(task.updated_at));
        self.with("c_updated_at", updated_at)
    }

    /// What the function's statement "Events" takes.
    fn events(&mut self, events: &[TaskEvent], deciders: &[Option<i32>]) -> Result<(), Error> {
        self.texts("e_tasks", column(events, |it| it.task_id.as_str()))?;
        self.with("e_version", column(events, |it| it.version))?;
        self.with("e_number", column(events, |it| it.number))?;
        self.texts("e_kind", column(events, |it| it.kind.as_str()))?;
        self.optional_texts("e_from", column(events, |it| it.from.as_deref()))?;
        self.texts("e_to", column(events, |it| &*it.to))?;
        self.texts("e_data", column(events, |it| it.data.as_str()))?;
        self.with("e_at", column(events, |it| Millis(it.at)))?;
        let topics = column(events, |it| &*it.cause.topic);
        self.texts("e_cause_topic", topics)?;
        let partitions = column(events, |it| it.cause.partition);
        self.with("e_cause_partition", partitions)?;
        self.with("e_cause_offset", column(events, |it| it.cause.offset))?;
        self.blobs("e_cause", column(events, |it| &*it.cause_bytes))?;
        self.texts("e_trace", column(events, |it| it.trace_id.as_str()))?;
        let foreign = column(events, |it| it.foreign_trace_id.as_deref());
        self.optional_texts("e_foreign_trace", foreign)?;
        self.with("e_decider", deciders.to_vec())?;
        let attempts = column(events, |it| it.basis.as_ref().map(|basis| basis.attempt));
        self.with("e_attempt", attempts)?;
        let seeds = column(events, |it| it.basis.as_ref().map(|basis| basis.seed));
        self.with("e_seed", seeds)
    }

    fn wakeups(&mut self, set: &WriteSet) -> Result<(), Error> {
        self.with("done_rows", set.done.clone())?;
        let timers = set.timers.values().flatten();
        let new: Vec<&Wakeup> = set.waiting.iter().chain(timers).collect();
        self.with("w_ids", column(&new, |it| it.id))?;
        self.texts("w_kind", column(&new, |it| it.kind.name()))?;
        self.texts("w_tasks", column(&new, |it| it.task_id.as_str()))?;
        self.optional_texts("w_names", column(&new, |it| it.name.as_deref()))?;
        self.texts("w_routes", column(&new, |it| it.route.as_str()))?;
        self.with("w_due", column(&new, |it| it.due.map(Millis)))?;
        self.with("w_sequence", column(&new, |it| it.rank.sequence))?;
        self.with("w_attempt", column(&new, |it| it.attempt))?;
        self.with("w_since", column(&new, |it| Millis(it.since)))?;
        self.texts("w_reason", column(&new, |it| it.reason.as_str()))?;
        self.blobs("w_cause", column(&new, |it| it.cause.as_slice()))?;
        self.texts("w_why", column(&new, |it| it.why.name()))?;
        self.with("w_tries", column(&new, |it| it.tries))?;
        self.with("w_since_worked", column(&new, |it| it.since_worked))?;
        self.with("w_place", column(&new, |it| it.rank.place))?;
        let counts_from = column(&new, |it| it.counts_from.map(Millis));
        self.with("w_counts_from", counts_from)?;
        let kept = &set.postponed;
        self.with("p_ids", column(kept, |it| it.id))?;
        self.with("p_due", column(kept, |it| Millis(it.due)))?;
        self.with("p_attempt", column(kept, |it| it.attempt))?;
        self.texts("p_reason", column(kept, |it| it.reason.as_str()))?;
        self.texts("p_why", column(kept, |it| it.why.name()))?;
        self.with("p_tries", column(kept, |it| it.tries))?;
        self.with("p_since_worked", column(kept, |it| it.since_worked))?;
        self.texts("p_tasks", column(kept, |it| it.task_id.as_str()))?;
        let turned: Vec<uuid::Uuid> = set.turned.iter().copied().collect();
        self.with("turned_rows", turned)?;
        let settled = set.settled.iter().map(TaskId::as_str).collect();
        self.texts("settled_tasks", settled)
    }

    /// Dead letters, replays and starts of activations: most batches have none of them.
    fn rare(&mut self, commitment: &Commitment<'_>) -> Result<(), Error> {
        let (set, starts) = (commitment.set, commitment.starts);
        let letters = &set.dead_letters;
        if letters.is_empty() && set.replayed.is_empty() && starts.is_empty() {
            return Ok(());
        }
        let failed = set.replayed.iter().filter_map(|replay| match &replay.end {
            End::Failed { letter, .. } => Some(failure(letter)),
            _ => None,
        });
        let starts = starts.iter().map(|start| {
            json!({"route": start.route, "number": start.number, "first_offset": start.first_offset})
        });
        let rare = json!({
            "letters": column(letters, letter),
            "replays": column(&set.replayed, replayed),
            "failed": failed.collect::<Vec<_>>(),
            "starts": starts.collect::<Vec<_>>(),
        });
        self.bytes += rare.to_string().len();
        self.with("rare", Json(rare))?;
        let keys = column(letters, |letter| letter.message.key.as_deref());
        self.optional_blobs("rare_keys", keys)?;
        let values = column(letters, |letter| letter.message.value.as_deref());
        self.optional_blobs("rare_values", values)?;
        let times = column(letters, |letter| Millis(letter.failed_at));
        self.with("rare_times", times)
    }
}

fn is_in_order(tasks: &[Task]) -> bool {
    tasks.is_sorted_by(|a, b| a.id < b.id)
}

/// What a dead letter's row says of how it failed.
fn failure(letter: &DeadLetter) -> Value {
    let plugin = letter.plugin.as_deref();
    json!({
        "id": letter.id.to_string(),
        "code": letter.code,
        "reason": letter.reason,
        "backtrace": letter.backtrace,
        "stage": stage(letter.stage),
        "attempts": letter.attempts,
        "task_id": letter.task_id.as_ref().map(ToString::to_string),
        "route": letter.route,
        "plugin_name": plugin.map(|it| &it.name),
        "plugin_version": plugin.map(|it| &it.version),
        "plugin_digest": plugin.map(|it| &it.digest),
    })
}

/// A new dead letter, but for its key, its payload and its time.
fn letter(letter: &DeadLetter) -> Value {
    let mut row = failure(letter);
    let position = &letter.message.position;
    row["record_topic"] = json!(*position.topic);
    row["record_partition"] = json!(position.partition);
    row["record_offset"] = json!(position.offset);
    row["record_timestamp"] = json!(letter.message.timestamp);
    row["headers"] = json!(headers(&letter.message.headers));
    row["source"] = json!(letter.source.name());
    row["replays"] = json!(letter.replays);
    row["sequence"] = json!(letter.sequence);
    row["holds"] = json!(letter.holds);
    row
}

fn replayed(replay: &Replayed) -> Value {
    // A replay that waits is not over, and one that is sent again wasn't decided.
    let (wakeup, counts) = match replay.end {
        End::Waiting { wakeup } => (Some(wakeup.to_string()), 0),
        End::Republished => (None, 0),
        _ => (None, 1),
    };
    json!({"id": replay.letter.to_string(), "state": replay.end.state(), "wakeup": wakeup, "counts": counts})
}
