//! What waits of a task in a partition, as SQL: its first rows, the dead letters that hold it, and what is due.
//!
//! Each question is a look into the one index that can answer it (migrations/0011), so it costs the same however much
//! waits. `asked` is a row of what is asked about, with `group_id`, `topic`, `partition` and `task_id`; and with
//! `is_there`, whether the task has a row, where that matters.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::{Ahead, Chain, Rank, Waiting, Why};
use uuid::Uuid;

use super::Key;
use super::error::Error;
use super::keyed::keyed;
use super::millis::Millis;
use super::pool::Store;
use super::question::Question;
use super::row::task_id;
use super::session::Session;
use super::wakeups::{columns, kind, wakeup, why};

/// What waits in a partition and is due: chains of messages, and timers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// One for each task of which a message is due, in the order of their earliest due time.
    pub chains: Vec<Chain>,
    /// Of each task of which only timers are due: the earliest.
    pub timers: Vec<Uuid>,
}

/// The tasks of `$4` in the partition of `$1`, `$2` and `$3`.
macro_rules! asked {
    () => {
        "asked AS MATERIALIZED (
            SELECT $1::text AS group_id, $2::text AS topic, $3::int AS partition, one.task_id,
                (SELECT id FROM taskhost.tasks WHERE id = one.task_id LIMIT 1) IS NOT NULL AS is_there
            FROM unnest($4::text[]) AS one (task_id))"
    };
}
pub(super) use asked;

/// The messages of a task that wait: with `<>` those that block, with `=` those that wait for the task.
macro_rules! rows_where {
    ($why:literal, $more:literal, $limit:literal) => {
        concat!(
            "SELECT id, ctid AS at, sequence, place, why, due, cause FROM taskhost.wakeups
             WHERE group_id = asked.group_id AND topic = asked.topic AND partition = asked.partition
               AND task_id = asked.task_id AND kind = 'deferred' AND why ",
            $why,
            " 'task-missing'",
            $more,
            " ORDER BY sequence, place LIMIT ",
            $limit
        )
    };
}
pub(super) use rows_where;

/// The first message of a task that isn't free.
macro_rules! head {
    () => {
        concat!(
            "(SELECT * FROM ((",
            rows_where!("<>", "", "1"),
            ") UNION ALL (",
            rows_where!("=", " AND asked.is_there", "1"),
            ")) AS firsts ORDER BY sequence, place LIMIT 1)"
        )
    };
}
pub(super) use head;

/// The first dead letter that holds a task: with `<>` in any case, with `=` once the task exists.
macro_rules! first_letter {
    ($code:literal, $more:literal) => {
        concat!(
            "SELECT sequence FROM taskhost.dead_letters
             WHERE group_id COLLATE \"POSIX\" = asked.group_id AND topic COLLATE \"POSIX\" = asked.topic
               AND partition = asked.partition AND task_id COLLATE \"POSIX\" = asked.task_id
               AND holds AND state COLLATE \"POSIX\" IN ('open', 'replaying', 'parked') AND code COLLATE \"POSIX\" ",
            $code,
            " 'task-missing'",
            $more,
            " ORDER BY sequence LIMIT 1"
        )
    };
}
pub(super) use first_letter;

const AHEAD: &str = concat!(
    "WITH asked AS MATERIALIZED (
        SELECT $1::text AS group_id, $2::text AS topic, $3::int AS partition, one.task_id
        FROM unnest($4::text[]) AS one (task_id))
     SELECT asked.task_id, blocking.sequence AS blocking, blocking.place AS blocking_place,
        missing.sequence AS missing, missing.place AS missing_place,
        letter.sequence AS letter, missing_letter.sequence AS missing_letter
     FROM asked
     LEFT JOIN LATERAL (",
    rows_where!("<>", " AND id <> ALL ($5)", "1"),
    ") AS blocking ON true LEFT JOIN LATERAL (",
    rows_where!("=", " AND id <> ALL ($5)", "1"),
    ") AS missing ON true LEFT JOIN LATERAL (",
    first_letter!("<>", " AND id <> ALL ($6)"),
    ") AS letter ON true LEFT JOIN LATERAL (",
    first_letter!("=", " AND id <> ALL ($6)"),
    ") AS missing_letter ON true
     WHERE blocking.id IS NOT NULL OR missing.id IS NOT NULL
        OR letter.sequence IS NOT NULL OR missing_letter.sequence IS NOT NULL"
);

const HITS: &str = "
SELECT id, kind, task_id, due, sequence, place, why, octet_length(cause)::bigint AS bytes FROM taskhost.wakeups
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND due <= $4 AND kind <> 'replay'
ORDER BY due, id LIMIT $5";

const CHAINS: &str = concat!(
    "WITH ",
    asked!(),
    " SELECT asked.task_id, asked.is_there, letter.sequence AS letter, missing_letter.sequence AS missing_letter,
        head.id, head.sequence, head.place, head.why, head.due, octet_length(head.cause)::bigint AS bytes
     FROM asked
     LEFT JOIN LATERAL (",
    first_letter!("<>", ""),
    ") AS letter ON true LEFT JOIN LATERAL (",
    first_letter!("=", ""),
    ") AS missing_letter ON true LEFT JOIN LATERAL ",
    head!(),
    " AS head ON true"
);

/// The tasks in the order given: as many rows in all as one batch takes, and no more are read.
const BEHIND: &str = concat!(
    "WITH asked AS MATERIALIZED (
        SELECT $1::text AS group_id, $2::text AS topic, $3::int AS partition, one.*
        FROM unnest($4::text[], $5::bigint[], $6::bigint[]) AS one (task_id, head_sequence, head_place))
     SELECT asked.task_id, behind.id, behind.sequence, behind.place, behind.why, behind.due,
        octet_length(behind.cause)::bigint AS bytes
     FROM asked CROSS JOIN LATERAL (
        SELECT * FROM ((",
    rows_where!(
        "<>",
        " AND (sequence, place) > (asked.head_sequence, asked.head_place)",
        "$7"
    ),
    ") UNION ALL (",
    rows_where!(
        "=",
        " AND (sequence, place) > (asked.head_sequence, asked.head_place)",
        "$7"
    ),
    ")) AS rows ORDER BY sequence, place LIMIT $7) AS behind LIMIT $7"
);

const ROWS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM taskhost.wakeups WHERE group_id = $1 AND topic = $2 AND partition = $3 AND id = ANY ($4)"
);

/// Of one of the two indexes each.
pub(super) const HOLDING: &str = "
(SELECT id FROM taskhost.dead_letters
 WHERE group_id COLLATE \"POSIX\" = $1 AND topic COLLATE \"POSIX\" = $2 AND partition = $3
   AND holds AND state COLLATE \"POSIX\" IN ('open', 'replaying', 'parked')
   AND code COLLATE \"POSIX\" <> 'task-missing' LIMIT 1)
UNION ALL
(SELECT id FROM taskhost.dead_letters
 WHERE group_id COLLATE \"POSIX\" = $1 AND topic COLLATE \"POSIX\" = $2 AND partition = $3
   AND holds AND state COLLATE \"POSIX\" IN ('open', 'replaying', 'parked')
   AND code COLLATE \"POSIX\" = 'task-missing' LIMIT 1)
LIMIT 1";

/// For each of the tasks what waits ahead of a batch that has these rows and dead letters: the first that blocks in any case
/// and the first that blocks once the task exists. Tasks with nothing ahead are left out.
pub(super) async fn ahead(
    session: &mut Session,
    key: &Key,
    question: Question<'_>,
) -> Result<HashMap<TaskId, Ahead>, Error> {
    if question.tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<&str> = question.tasks.iter().map(TaskId::as_str).collect();
    let statement = keyed(AHEAD, key)
        .bind(ids)
        .bind(question.rows)
        .bind(question.letters);
    let found = session.rows(statement).await?;
    found
        .iter()
        .map(|row| {
            let mut ahead = letters_ahead(row)?;
            for (name, place, is_missing) in [
                ("blocking", "blocking_place", false),
                ("missing", "missing_place", true),
            ] {
                if let Some(rank) = rank(row, name, place)? {
                    ahead.add(rank, is_missing);
                }
            }
            Ok((task_id(row, "task_id")?, ahead))
        })
        .collect()
}

impl Store {
    /// What is due in a partition at `now`: found by the `limit` (at least 1) rows that are due first.
    ///
    /// A chain has those of its task's rows that are due, the first that isn't free, and those behind that: of all chains
    /// together at most `limit`. The rows behind are read for a chain whose first may be decided now, as no others are
    /// taken.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn due_chains(&self, key: &Key, now: i64, limit: u32) -> Result<Due, Error> {
        let limit = i64::from(limit);
        let mut session = Session::look(self).await?;
        let hits = keyed(HITS, key).bind(Millis(now)).bind(limit);
        let mut found = Found::new(&session.rows(hits).await?)?;
        if !found.tasks.is_empty() {
            let ids: Vec<&str> = found.tasks.iter().map(TaskId::as_str).collect();
            let rows = session.rows(keyed(CHAINS, key).bind(ids)).await?;
            let heads = found.add_heads(&rows, now)?;
            if !heads.is_empty() {
                let (ids, ranks): (Vec<&str>, Vec<Rank>) =
                    heads.iter().map(|(id, rank)| (id.as_str(), *rank)).unzip();
                let behind = keyed(BEHIND, key)
                    .bind(ids)
                    .bind(ranks.iter().map(|rank| rank.sequence).collect::<Vec<_>>())
                    .bind(ranks.iter().map(|rank| rank.place).collect::<Vec<_>>())
                    .bind(limit);
                for row in session.rows(behind).await? {
                    found.add(&task_id(&row, "task_id")?, waiting(&row)?);
                }
            }
        }
        session.rollback().await;
        Ok(found.finish())
    }

    /// Rows of the partition, in the order of `ids`; those that are not there any more are left out.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn waiting_rows(&self, key: &Key, ids: &[Uuid]) -> Result<Vec<Wakeup>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.read_rows(keyed(ROWS, key).bind(ids)).await?;
        let rows = rows.iter().map(wakeup).collect::<Result<Vec<_>, _>>()?;
        let mut rows: HashMap<Uuid, Wakeup> = rows.into_iter().map(|row| (row.id, row)).collect();
        Ok(ids.iter().filter_map(|id| rows.remove(id)).collect())
    }
}

/// The rows of a chain so far, in order.
type Rows = BTreeMap<(Rank, Uuid), Waiting>;

/// What is due, in the making.
struct Found {
    /// Tasks of which a message is due, in the order of their earliest due time.
    tasks: Vec<TaskId>,
    chains: HashMap<TaskId, (Chain, Rows)>,
    timers: Vec<Uuid>,
}

impl Found {
    /// From the rows that are due, in the order of their due times.
    fn new(hits: &[PgRow]) -> Result<Self, Error> {
        let mut found = Self {
            tasks: Vec::new(),
            chains: HashMap::new(),
            timers: Vec::new(),
        };
        let mut timers = Vec::new();
        for hit in hits {
            let id = task_id(hit, "task_id")?;
            match kind(hit)? {
                WakeupKind::Deferred => found.add(&id, waiting(hit)?),
                _ => timers.push((id, hit.try_get("id")?)),
            }
        }
        let mut seen = HashSet::new();
        timers.retain(|(task, _)| !found.chains.contains_key(task) && seen.insert(task.clone()));
        found.timers = timers.into_iter().map(|(_, id)| id).collect();
        Ok(found)
    }

    fn add(&mut self, task: &TaskId, row: Waiting) {
        let (_, rows) = self.chains.entry(task.clone()).or_insert_with(|| {
            self.tasks.push(task.clone());
            let chain = Chain {
                task_id: task.clone(),
                exists: false,
                letters: Ahead::default(),
                rows: Vec::new(),
            };
            (chain, BTreeMap::new())
        });
        rows.insert((row.rank, row.id), row);
    }

    /// Adds to each chain what is known of its task, and its head. Says which heads may be decided now, in order.
    fn add_heads(&mut self, rows: &[PgRow], now: i64) -> Result<Vec<(TaskId, Rank)>, Error> {
        let mut starts = HashMap::new();
        for row in rows {
            let task = task_id(row, "task_id")?;
            let Some((chain, _)) = self.chains.get_mut(&task) else {
                continue;
            };
            chain.exists = row.try_get("is_there")?;
            chain.letters = letters_ahead(row)?;
            let letter = chain.letters.first(chain.exists);
            if row.try_get::<Option<Uuid>, _>("id")?.is_some() {
                let head = waiting(row)?;
                let is_due = head.due.is_some_and(|due| due <= now);
                let is_held = letter.is_some_and(|letter| letter < head.rank);
                if (is_due || head.why == Why::TaskMissing) && !is_held {
                    starts.insert(task.clone(), head.rank);
                }
                self.add(&task, head);
            }
        }
        let in_order = self
            .tasks
            .iter()
            .filter_map(|task| starts.remove_entry(task));
        Ok(in_order.collect())
    }

    fn finish(mut self) -> Due {
        let chains = self.tasks.iter().filter_map(|task| {
            let (chain, rows) = self.chains.remove(task)?;
            let rows = rows.into_values().collect();
            Some(Chain { rows, ..chain })
        });
        Due {
            chains: chains.collect(),
            timers: self.timers,
        }
    }
}

/// The dead letters that hold a task, of a row that has the first of either kind.
fn letters_ahead(row: &PgRow) -> Result<Ahead, Error> {
    let mut ahead = Ahead::default();
    for (name, is_missing) in [("letter", false), ("missing_letter", true)] {
        if let Some(sequence) = row.try_get(name)? {
            ahead.add(Rank::of_record(sequence), is_missing);
        }
    }
    Ok(ahead)
}

fn rank(row: &PgRow, sequence: &str, place: &str) -> Result<Option<Rank>, Error> {
    let sequence: Option<i64> = row.try_get(sequence)?;
    let place: Option<i64> = row.try_get(place)?;
    let rank = sequence.zip(place);
    Ok(rank.map(|(sequence, place)| Rank { sequence, place }))
}

fn waiting(row: &PgRow) -> Result<Waiting, Error> {
    let due: Option<Millis> = row.try_get("due")?;
    let bytes: i64 = row.try_get("bytes")?;
    Ok(Waiting {
        id: row.try_get("id")?,
        rank: Rank {
            sequence: row.try_get("sequence")?,
            place: row.try_get("place")?,
        },
        why: why(row.try_get("why")?)?,
        due: due.map(|due| due.0),
        bytes: u64::try_from(bytes).unwrap_or(0),
    })
}
