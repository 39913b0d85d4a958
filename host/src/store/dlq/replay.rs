//! Replays: asked for by people, taken by the partition's worker, ended in the transaction of what they cause.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::batch::Wakeup;
use taskhost_core::dead_letter::DeadLetter;
use taskhost_core::record::TopicPartition;
use taskhost_core::replay::{End, Replayed};
use taskhost_core::waiting::Rank;
use uuid::Uuid;

use crate::store::Key;
use crate::store::dead_letters::{State, StoredDeadLetter, columns, stored};
use crate::store::error::Error;
use crate::store::keyed::keyed;
use crate::store::millis::Millis;
use crate::store::open::Batch;
use crate::store::pool::Store;
use crate::store::session::Session;
use crate::store::wakeups::why;
use crate::store::write::{column, expect, rows, stage};

/// A dead letter whose replay is to be decided, with the wakeup that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueReplay {
    /// The wakeup.
    pub wakeup: Wakeup,
    /// The dead letter.
    pub letter: StoredDeadLetter,
}

/// What became of a request for replays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// The dead letters that are on their way now.
    pub ids: Vec<Uuid>,
    /// Their partitions, to be told of it.
    pub keys: Vec<Key>,
}

/// How many dead letters are in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The state.
    pub state: State,
    /// How many.
    pub count: i64,
}

/// What has no place in its partition comes behind all that have one, in the order in which it failed. A message that its topic refused has
/// nobody to decide it: it can only be sent again. What the partition has no progress for nobody would take.
const REQUEST: &str = "
WITH chosen AS (
    SELECT group_id, id, topic, partition
    FROM taskhost.dead_letters d
    WHERE group_id = $1 AND id = ANY ($2) AND (state = 'open' OR ($3 AND state = 'parked'))
      AND (source <> 'outgoing' OR $4) AND (source <> 'timer' OR NOT $4)
      AND EXISTS (SELECT FROM taskhost.progress p
                  WHERE (p.group_id, p.topic, p.partition) = (d.group_id, d.topic, d.partition))
    ORDER BY id FOR UPDATE
), marked AS (
    UPDATE taskhost.dead_letters d SET state = 'replaying', state_at = now(), wakeup = gen_random_uuid(), republish = $4,
        decided_by = $5
    FROM chosen WHERE (d.group_id, d.id) = (chosen.group_id, chosen.id) AND d.id = ANY ($2)
    RETURNING d.group_id, d.topic, d.partition, d.id, d.wakeup, d.task_id, d.route, d.record_offset, d.created_at, d.sequence
), inserted AS (
    INSERT INTO taskhost.wakeups (group_id, topic, partition, id, kind, task_id, route, sequence, attempt, since, reason, cause)
    SELECT group_id, topic, partition, wakeup, 'replay', COALESCE(task_id, id::text), COALESCE(route, ''),
        COALESCE(sequence, 9223372036854775807), 0, now(), '', ''
    FROM marked ORDER BY created_at, record_offset, id
)
SELECT id, topic, partition FROM marked";

/// As many as fit, at least one: the bytes are those of the payloads. The collation leaves one index that can be used.
const DUE: &str = concat!(
    "WITH first AS (
        SELECT id, sequence, place, why, attempt, tries, since, since_worked FROM taskhost.wakeups
        WHERE group_id = $1 AND topic = $2 AND partition = $3 AND kind = 'replay' AND (due IS NULL OR due <= $4)
        ORDER BY sequence, place LIMIT $5
     ), sized AS (
        SELECT first.*, sum(letter.bytes) OVER turns AS bytes, row_number() OVER turns AS number
        FROM first CROSS JOIN LATERAL (
            SELECT COALESCE(octet_length(CASE WHEN edits > 0 THEN edited_value ELSE value END), 0) AS bytes
            FROM taskhost.dead_letters WHERE wakeup = first.id AND group_id COLLATE \"POSIX\" = $1 LIMIT 1
        ) AS letter
        WINDOW turns AS (ORDER BY first.sequence, first.place)
     ), w AS (
        SELECT * FROM sized WHERE bytes <= $6 OR number = 1
     )
     SELECT ",
    columns!(),
    ", w.id AS w_id, w.why AS w_why, w.attempt AS w_attempt, w.tries AS w_tries, w.since AS w_since,
        w.since_worked AS w_since_worked, COALESCE(d.sequence, p.next_offset - 1, -1) AS w_sequence,
        CASE WHEN d.sequence IS NULL THEN w.place ELSE 0 END AS w_place
     FROM w CROSS JOIN LATERAL (
        SELECT * FROM taskhost.dead_letters WHERE wakeup = w.id AND group_id COLLATE \"POSIX\" = $1 LIMIT 1
     ) AS d
     JOIN taskhost.progress p ON (p.group_id, p.topic, p.partition) = ($1, $2, $3)
     ORDER BY w.number"
);

const OF_WAKEUPS: &str = concat!(
    "SELECT ",
    columns!(),
    ", d.wakeup FROM taskhost.dead_letters d WHERE group_id = $1 AND wakeup = ANY ($2)"
);

const STATES: &str = "
SELECT state, count(*) AS count FROM taskhost.dead_letters WHERE group_id = $1 AND id = ANY ($2) GROUP BY state";

/// Only what is being replayed; each has one row here.
const END: &str = "
UPDATE taskhost.dead_letters d SET state = new.state, state_at = now(), wakeup = new.wakeup, republish = false,
    replays = d.replays + new.counts
FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::int[]) AS new (id, state, wakeup, counts)
WHERE d.group_id = $1 AND d.id = new.id AND d.id = ANY ($2) AND d.state IN ('replaying', 'waiting')";

const FAIL: &str = "
UPDATE taskhost.dead_letters d SET code = new.code, reason = new.reason, backtrace = new.backtrace, stage = new.stage,
    attempts = new.attempts, task_id = new.task_id, route = new.route, plugin_name = new.plugin_name,
    plugin_version = new.plugin_version, plugin_digest = new.plugin_digest
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::text[])
    AS new (id, code, reason, backtrace, stage, attempts, task_id, route, plugin_name, plugin_version, plugin_digest)
WHERE d.group_id = $1 AND d.id = new.id AND d.id = ANY ($2)";

impl Store {
    /// Lets dead letters be decided again, or sent again if `republish`: those of them that are open, and with `force`
    /// those that are parked, too. Tell their partitions by [`Store::notify`].
    ///
    /// # Errors
    /// Trouble only.
    pub async fn request_replays(
        &self,
        group: &str,
        ids: &[Uuid],
        force: bool,
        republish: bool,
        by: &str,
    ) -> Result<Requested, Error> {
        let statement = sqlx::query(REQUEST)
            .bind(group)
            .bind(ids)
            .bind(force)
            .bind(republish)
            .bind(by);
        let mut session = Session::begin(self).await?;
        let rows = session.rows(statement).await?;
        session.commit_or_repeat().await?;
        let mut requested = Requested::default();
        for row in &rows {
            requested.ids.push(row.try_get("id")?);
            let topic: &str = row.try_get("topic")?;
            let partition = TopicPartition::new(topic, row.try_get("partition")?);
            requested.keys.push(Key::new(group, partition));
        }
        requested.keys.sort_unstable();
        requested.keys.dedup();
        Ok(requested)
    }

    /// The partition's replays that are to be decided, in order: at most `limit`, and not more bytes than `bytes_max` unless
    /// a single one has them.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn due_replays(
        &self,
        key: &Key,
        now: i64,
        limit: u32,
        bytes_max: u64,
    ) -> Result<Vec<DueReplay>, Error> {
        let statement = keyed(DUE, key)
            .bind(Millis(now))
            .bind(i64::from(limit))
            .bind(i64::try_from(bytes_max).unwrap_or(i64::MAX));
        let rows = self.read_rows(statement).await?;
        rows.iter().map(due_replay).collect()
    }

    /// The dead letters that wakeups stand for, by the wakeup's id.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn replays_of(
        &self,
        group: &str,
        wakeups: &[Uuid],
    ) -> Result<HashMap<Uuid, StoredDeadLetter>, Error> {
        let statement = sqlx::query(OF_WAKEUPS).bind(group).bind(wakeups);
        let rows = self.read_rows(statement).await?;
        rows.iter()
            .map(|row| Ok((row.try_get("wakeup")?, stored(row)?)))
            .collect()
    }

    /// How many of the dead letters are in which state.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn dead_letter_states(
        &self,
        group: &str,
        ids: &[Uuid],
    ) -> Result<Vec<Counted>, Error> {
        let rows = self
            .read_rows(sqlx::query(STATES).bind(group).bind(ids))
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Counted {
                    state: State::from_name(row.try_get("state")?).unwrap_or(State::Open),
                    count: row.try_get("count")?,
                })
            })
            .collect()
    }
}

fn due_replay(row: &PgRow) -> Result<DueReplay, Error> {
    let letter = stored(row)?;
    let since: Millis = row.try_get("w_since")?;
    let unnamed = || {
        taskhost_core::task::TaskId::new(letter.letter.id.to_string())
            .map_err(|error| Error::Unreadable(sqlx::Error::Decode(error.into())))
    };
    let wakeup = Wakeup {
        id: row.try_get("w_id")?,
        kind: taskhost_core::batch::WakeupKind::Replay,
        task_id: letter.letter.task_id.clone().map_or_else(unnamed, Ok)?,
        name: None,
        route: letter.letter.route.clone().unwrap_or_default(),
        due: None,
        counts_from: None,
        rank: Rank {
            sequence: row.try_get("w_sequence")?,
            place: row.try_get("w_place")?,
        },
        why: why(row.try_get("w_why")?)?,
        attempt: row.try_get("w_attempt")?,
        tries: row.try_get("w_tries")?,
        since: since.0,
        since_worked: row.try_get("w_since_worked")?,
        given_up_by: None,
        reason: String::new(),
        cause: Vec::new(),
    };
    Ok(DueReplay { wakeup, letter })
}

/// Writes how the replays of a batch went.
pub(in crate::store) async fn replayed(
    batch: &mut Batch,
    replays: &[Replayed],
) -> Result<(), Error> {
    if replays.is_empty() {
        return Ok(());
    }
    // A replay that waits is not over, and one that is sent again wasn't decided.
    let counts = |replay: &Replayed| match replay.end {
        End::Waiting { .. } | End::Republished => 0,
        _ => 1,
    };
    let wakeup_of = |replay: &Replayed| match replay.end {
        End::Waiting { wakeup } => Some(wakeup),
        _ => None,
    };
    let statement = sqlx::query(END)
        .bind(batch.key.group.to_string())
        .bind(column(replays, |replay| replay.letter))
        .bind(column(replays, |replay| replay.end.state()))
        .bind(column(replays, wakeup_of))
        .bind(column(replays, counts));
    let found = batch.session.execute(statement).await?;
    expect(batch, "replayed dead letters", rows(replays.len()), found)?;
    let failed: Vec<&DeadLetter> = replays
        .iter()
        .filter_map(|replay| match &replay.end {
            End::Failed { letter, .. } => Some(&**letter),
            _ => None,
        })
        .collect();
    fail(batch, &failed).await
}

async fn fail(batch: &mut Batch, letters: &[&DeadLetter]) -> Result<(), Error> {
    if letters.is_empty() {
        return Ok(());
    }
    let plugin = |letter: &&DeadLetter| letter.plugin.clone();
    let statement = sqlx::query(FAIL)
        .bind(batch.key.group.to_string())
        .bind(column(letters, |letter| letter.id))
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
        }));
    let found = batch.session.execute(statement).await?;
    expect(
        batch,
        "dead letters that failed again",
        rows(letters.len()),
        found,
    )
}
