//! What waits: which rows are due, what is ahead of them, and whose turn it is.

use std::collections::{BTreeSet, HashMap};

use taskhost::store::{Due, DueReplay, Key};
use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::{Ahead, Chain, Rank, Waiting, Why};
use uuid::Uuid;

use super::tables::Tables;

impl Tables {
    /// What is ahead of these tasks' causes, but for these rows and dead letters.
    pub(crate) fn ahead(
        &self,
        key: &Key,
        tasks: &[TaskId],
        rows: &[Uuid],
        letters: &[Uuid],
    ) -> HashMap<TaskId, Ahead> {
        let ahead = |task: &TaskId| {
            let mut ahead = self.letters_ahead(key, task, letters);
            for row in self.chain(key, task) {
                if !rows.contains(&row.id) {
                    ahead.add(row.rank, row.why == Why::TaskMissing);
                }
            }
            (task.clone(), ahead)
        };
        let all = tasks.iter().map(ahead);
        all.filter(|(_, ahead)| !ahead.is_empty()).collect()
    }

    pub(crate) fn due_chains(&self, key: &Key, now: i64, limit: u32) -> Due {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let due = |row: &&Wakeup| row.due.is_some_and(|due| due <= now);
        let mut hits: Vec<&Wakeup> = self.rows_of(key).filter(due).collect();
        hits.retain(|row| row.kind != WakeupKind::Replay);
        hits.sort_by_key(|row| (row.due, row.id));
        hits.truncate(limit);
        let mut tasks: Vec<&TaskId> = Vec::new();
        for row in hits.iter().filter(|row| row.kind == WakeupKind::Deferred) {
            if !tasks.contains(&&row.task_id) {
                tasks.push(&row.task_id);
            }
        }
        let mut timed: BTreeSet<&TaskId> = BTreeSet::new();
        let timers = hits.iter().filter(|row| {
            row.kind == WakeupKind::Timer
                && !tasks.contains(&&row.task_id)
                && timed.insert(&row.task_id)
        });
        let timers = timers.map(|row| row.id).collect();
        let (mut chains, mut room) = (Vec::new(), limit);
        for task in tasks {
            let (chain, behind) = self.due_chain(key, task, &hits, now, room);
            room -= behind;
            chains.push(chain);
        }
        Due { chains, timers }
    }

    /// A chain as it is read, and how many rows behind its head that took.
    fn due_chain(
        &self,
        key: &Key,
        task: &TaskId,
        hits: &[&Wakeup],
        now: i64,
        room: usize,
    ) -> (Chain, usize) {
        let exists = self.tasks.contains_key(task);
        let letters = self.letters_ahead(key, task, &[]);
        let chain = self.chain(key, task);
        let head = chain
            .iter()
            .position(|row| row.why != Why::TaskMissing || exists);
        let mut rows: Vec<&Wakeup> = hits
            .iter()
            .copied()
            .filter(|row| row.kind == WakeupKind::Deferred && row.task_id == *task)
            .collect();
        let mut behind = 0;
        if let Some(head) = head {
            let first = chain[head];
            rows.push(first);
            let is_held = letters
                .first(exists)
                .is_some_and(|letter| letter < first.rank);
            let is_due = first.due.is_some_and(|due| due <= now);
            if (is_due || first.why == Why::TaskMissing) && !is_held {
                let more = chain[head + 1..].iter().take(room);
                behind = more.len();
                rows.extend(more);
            }
        }
        rows.sort_by_key(|row| (row.rank, row.id));
        rows.dedup_by_key(|row| row.id);
        let rows = rows.into_iter().map(|row| Waiting {
            id: row.id,
            rank: row.rank,
            why: row.why,
            due: row.due,
            bytes: u64::try_from(row.cause.len()).unwrap_or(0),
        });
        let chain = Chain {
            task_id: task.clone(),
            exists,
            letters,
            rows: rows.collect(),
        };
        (chain, behind)
    }

    pub(crate) fn waiting_rows(&self, key: &Key, ids: &[Uuid]) -> Vec<Wakeup> {
        let found = ids.iter().filter_map(|id| {
            let (owner, row) = self.rows.get(id)?;
            (owner == key).then(|| row.clone())
        });
        found.collect()
    }

    pub(crate) fn due_replays(
        &self,
        key: &Key,
        now: i64,
        limit: u32,
        bytes_max: u64,
    ) -> Vec<DueReplay> {
        let is_due =
            |row: &&Wakeup| row.kind == WakeupKind::Replay && row.due.is_none_or(|due| due <= now);
        let mut rows: Vec<&Wakeup> = self.rows_of(key).filter(is_due).collect();
        rows.sort_by_key(|row| row.rank);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = self
            .progress
            .get(key)
            .and_then(|row| row.at.next_offset)
            .unwrap_or(0);
        let (mut due, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let letter = self.letters.values();
            let letter = letter
                .into_iter()
                .find(|letter| letter.wakeup == Some(row.id));
            let Some(letter) = letter.map(|letter| letter.stored.clone()) else {
                continue;
            };
            let message = letter.message();
            bytes += message.value.as_ref().map_or(0, Vec::len);
            if !due.is_empty() && u64::try_from(bytes).unwrap_or(u64::MAX) > bytes_max {
                break;
            }
            let rank = match letter.letter.sequence {
                Some(sequence) => Rank::of_record(sequence),
                None => Rank {
                    sequence: next - 1,
                    place: row.rank.place,
                },
            };
            let wakeup = Wakeup {
                task_id: letter.letter.task_id.clone().unwrap_or(row.task_id.clone()),
                route: letter.letter.route.clone().unwrap_or_default(),
                due: None,
                counts_from: None,
                rank,
                reason: String::new(),
                cause: Vec::new(),
                ..row.clone()
            };
            due.push(DueReplay { wakeup, letter });
        }
        due
    }

    /// Gives the first row of a task its turn, if nothing is before it.
    pub(crate) fn give_turn(&mut self, key: &Key, task: &TaskId, now: i64) -> bool {
        let exists = self.tasks.contains_key(task);
        let chain = self.chain(key, task);
        let head = chain
            .iter()
            .find(|row| row.why != Why::TaskMissing || exists);
        let Some(head) = head else {
            return false;
        };
        let waits = head.why == Why::TaskMissing && head.due.is_some_and(|due| due > now);
        let letter = self.letters_ahead(key, task, &[]).first(exists);
        let is_held = letter.is_some_and(|letter| letter < head.rank);
        if is_held || !(head.due.is_none() || waits) {
            return false;
        }
        let id = head.id;
        if let Some((_, row)) = self.rows.get_mut(&id) {
            row.due = Some(now);
        }
        true
    }

    pub(crate) fn settle_chains(&mut self, key: &Key, now: i64) -> u64 {
        let blocking = self.deferred(key).filter(|row| row.why != Why::TaskMissing);
        let tasks: BTreeSet<TaskId> = blocking.map(|row| row.task_id.clone()).collect();
        let mut settled = 0;
        for task in tasks {
            let first = self.chain(key, &task);
            let first = first.iter().find(|row| row.why != Why::TaskMissing);
            let has_no_time = first.is_some_and(|row| row.due.is_none());
            settled += u64::from(has_no_time && self.give_turn(key, &task, now));
        }
        settled
    }

    pub(crate) fn settle_tasks(&mut self, tasks: &[TaskId], now: i64) -> Vec<Key> {
        let mut keys = BTreeSet::new();
        for task in tasks {
            for key in self.waited_in(task) {
                if self.give_turn(&key, task, now) {
                    keys.insert(key);
                }
            }
        }
        keys.into_iter().collect()
    }

    pub(crate) fn wake_tasks(&mut self, tasks: &[TaskId], now: i64) -> Vec<Key> {
        let mut keys = BTreeSet::new();
        for task in tasks {
            for key in self.waited_in(task) {
                let first = self.chain(&key, task).first().map(|row| row.id);
                let row = first.and_then(|id| self.rows.get_mut(&id));
                if let Some((_, row)) = row
                    && matches!(row.why, Why::Deferral | Why::TaskMissing)
                    && row.due.is_some_and(|due| due > now)
                {
                    row.due = Some(now);
                    keys.insert(key);
                }
            }
        }
        keys.into_iter().collect()
    }

    /// The partitions in which messages of a task wait.
    fn waited_in(&self, task: &TaskId) -> BTreeSet<Key> {
        let rows = self.rows.values();
        let rows = rows.filter(|(_, row)| row.kind == WakeupKind::Deferred && row.task_id == *task);
        rows.map(|(key, _)| key.clone()).collect()
    }
}
