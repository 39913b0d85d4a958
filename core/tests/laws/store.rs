//! What the database would hold, in memory: tasks for all, and for each partition its rows, dead letters and counts.
//!
//! A commit does everything or nothing. It checks the versions of the tasks that change and that its own rows are still
//! there, as the store does. Its last step settles the turns of what waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use taskhost_core::batch::{Postponed, Wakeup, WakeupKind, WriteSet};
use taskhost_core::dead_letter::{DeadLetter, Source, TASK_MISSING};
use taskhost_core::outcome::Counts;
use taskhost_core::record::{Message, Record};
use taskhost_core::replay::{End, Replayed};
use taskhost_core::task::{Task, TaskEvent, TaskId};
use taskhost_core::waiting::{Rank, Why};
use uuid::Uuid;

/// The database.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Store {
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) events: Vec<TaskEvent>,
    pub(crate) records: Vec<Record>,
    /// With the partition that owns each.
    pub(crate) timers: BTreeMap<Uuid, (usize, Wakeup)>,
    pub(crate) shelves: Vec<Shelf>,
}

/// What one partition has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shelf {
    pub(crate) next_offset: i64,
    /// What waits.
    pub(crate) rows: BTreeMap<Uuid, Wakeup>,
    /// Orders to decide a dead letter again, in the order in which they were given.
    pub(crate) replays: Vec<Order>,
    pub(crate) letters: BTreeMap<Uuid, Kept>,
    pub(crate) counts: Counts,
    /// Dead letters that a person discarded or sent to their topic again.
    pub(crate) dropped: u64,
}

/// A person's order to decide a dead letter again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    pub(crate) letter: Uuid,
    pub(crate) row: Wakeup,
    /// Place among the orders of all times.
    pub(crate) number: i64,
}

/// A dead letter's row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) letter: DeadLetter,
    /// Its message as it was edited last.
    pub(crate) message: Arc<Message>,
    pub(crate) republish: bool,
    pub(crate) state: State,
}

/// A dead letter's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Replaying,
    /// As this row.
    Waiting(Uuid),
    Settled,
}

/// Why a commit wrote nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Not {
    /// A task or a row is no longer as it was read.
    Conflict,
    /// A value that the database does not take.
    Refused,
}

impl Kept {
    /// A new dead letter.
    pub(crate) fn new(letter: DeadLetter) -> Self {
        Self {
            message: letter.message.clone(),
            letter,
            republish: false,
            state: State::Open,
        }
    }

    /// The rank at which it holds its task, if it does; and whether only once the task exists.
    pub(crate) fn hold(&self, task_id: &TaskId) -> Option<(Rank, bool)> {
        let unsettled = matches!(self.state, State::Open | State::Replaying);
        let holds = self.letter.holds && unsettled && self.letter.task_id.as_ref() == Some(task_id);
        let sequence = self.letter.sequence.filter(|_| holds)?;
        Some((Rank::of_record(sequence), self.letter.code == TASK_MISSING))
    }
}

impl Shelf {
    /// What waits of a task, in order.
    pub(crate) fn chain(&self, task_id: &TaskId) -> Vec<&Wakeup> {
        let of_task = self.rows.values().filter(|row| row.task_id == *task_id);
        let mut chain: Vec<&Wakeup> = of_task.collect();
        chain.sort_by_key(|row| row.rank);
        chain
    }

    /// The first dead letter that holds a task, for a task that exists or doesn't.
    pub(crate) fn first_hold(&self, task_id: &TaskId, exists: bool) -> Option<Rank> {
        let holds = self.letters.values().filter_map(|kept| kept.hold(task_id));
        let counts = holds.filter(|(_, is_missing)| exists || !is_missing);
        counts.map(|(rank, _)| rank).min()
    }

    /// The dead letter that a row stands for.
    pub(crate) fn letter_of(&self, row: Uuid) -> Option<&Kept> {
        let waits = |kept: &&Kept| kept.state == State::Waiting(row);
        let ordered = self.replays.iter().find(|order| order.row.id == row);
        match ordered {
            Some(order) => self.letters.get(&order.letter),
            None => self.letters.values().find(waits),
        }
    }
}

impl Store {
    pub(crate) fn new(partitions: usize) -> Self {
        Self {
            shelves: vec![Shelf::default(); partitions],
            ..Self::default()
        }
    }

    /// The version of a task; 0 if there is none.
    pub(crate) fn version(&self, id: &TaskId) -> i64 {
        self.tasks.get(id).map_or(0, |task| task.version)
    }

    /// Commits what a partition decided at `now` on the tasks as read, with so many records of its log.
    pub(crate) fn commit(
        &mut self,
        partition: usize,
        now: i64,
        set: &WriteSet,
        read: &[Task],
        records: usize,
    ) -> Result<(), Not> {
        self.check(partition, set, read)?;
        for task in set.created.iter().chain(&set.updated) {
            self.tasks.insert(task.id.clone(), task.clone());
        }
        for id in &set.done {
            self.timers.remove(id);
            let shelf = &mut self.shelves[partition];
            shelf.rows.remove(id);
            shelf.replays.retain(|order| order.row.id != *id);
        }
        for postponed in &set.postponed {
            self.postpone(partition, postponed);
        }
        for ((task_id, name), order) in &set.timers {
            self.timers
                .retain(|_, (_, row)| (&row.task_id, row.name.as_ref()) != (task_id, Some(name)));
            let set = order.iter().map(|row| (row.id, (partition, row.clone())));
            self.timers.extend(set);
        }
        self.events.extend(set.events.iter().cloned());
        self.records.extend(set.records.iter().cloned());
        self.write_shelf(partition, set, records);
        self.settle(partition, now, &set.settled);
        Ok(())
    }

    fn check(&self, partition: usize, set: &WriteSet, read: &[Task]) -> Result<(), Not> {
        let shelf = &self.shelves[partition];
        let read_version = |id: &TaskId| {
            let task = read.iter().find(|task| task.id == *id);
            task.map_or(0, |task| task.version)
        };
        let mut changed = set.created.iter().chain(&set.updated);
        let as_read = changed.all(|task| self.version(&task.id) == read_version(&task.id));
        let is_there = |id: &Uuid| {
            let ordered = shelf.replays.iter().any(|order| order.row.id == *id);
            ordered || shelf.rows.contains_key(id) || self.timers.contains_key(id)
        };
        let mut own = set
            .done
            .iter()
            .chain(set.postponed.iter().map(|row| &row.id));
        match as_read && own.all(is_there) && set.turned.iter().all(is_there) {
            true => Ok(()),
            false => Err(Not::Conflict),
        }
    }

    fn postpone(&mut self, partition: usize, postponed: &Postponed) {
        let shelf = &mut self.shelves[partition];
        let orders = shelf.replays.iter_mut().map(|order| &mut order.row);
        let timers = self.timers.values_mut().map(|(_, row)| row);
        let mut all = orders.chain(shelf.rows.values_mut()).chain(timers);
        let row = all.find(|row| row.id == postponed.id).expect("a row");
        row.task_id = postponed.task_id.clone();
        row.why = postponed.why;
        row.due = Some(postponed.due);
        row.counts_from = Some(postponed.due);
        row.attempt = postponed.attempt;
        row.tries = postponed.tries;
        row.since_worked = postponed.since_worked;
        row.reason = postponed.reason.clone();
    }

    fn write_shelf(&mut self, partition: usize, set: &WriteSet, records: usize) {
        let shelf = &mut self.shelves[partition];
        for id in &set.turned {
            let row = shelf.rows.get_mut(id).expect("a row");
            row.why = Why::Turn;
            row.due = None;
        }
        for row in &set.waiting {
            assert_eq!(row.kind, WakeupKind::Deferred);
            let twice = shelf.rows.insert(row.id, row.clone());
            assert!(twice.is_none(), "a row twice: {row:?} and {twice:?}");
        }
        for letter in &set.dead_letters {
            let twice = shelf.letters.insert(letter.id, Kept::new(letter.clone()));
            assert!(
                twice.is_none(),
                "a dead letter twice: {letter:?} and {twice:?}"
            );
        }
        for replayed in &set.replayed {
            shelf.replayed(replayed);
        }
        shelf.next_offset += i64::try_from(records).expect("a few");
        shelf.counts += set.counts;
    }

    /// The first that waits of each task and isn't free gets its turn, if it has no time or waited for the task.
    pub(crate) fn settle(&mut self, partition: usize, now: i64, tasks: &BTreeSet<TaskId>) {
        for task_id in tasks {
            let exists = self.tasks.contains_key(task_id);
            let shelf = &mut self.shelves[partition];
            let hold = shelf.first_hold(task_id, exists);
            let chain = shelf.chain(task_id).into_iter();
            let mut blocking = chain.filter(|row| exists || row.why != Why::TaskMissing);
            let Some((id, rank)) = blocking.next().map(|row| (row.id, row.rank)) else {
                continue;
            };
            let row = shelf.rows.get_mut(&id).expect("a row");
            let waits = row
                .due
                .is_none_or(|due| due > now && row.why == Why::TaskMissing);
            if waits && hold.is_none_or(|hold| hold > rank) {
                row.due = Some(now);
            }
        }
    }

    /// A task changed: the first that waits of it in a partition is tried sooner.
    pub(crate) fn hint(&mut self, partition: usize, now: i64, task_id: &TaskId) {
        let shelf = &mut self.shelves[partition];
        let first = shelf.chain(task_id).first().map(|row| row.id);
        let row = first.and_then(|id| shelf.rows.get_mut(&id));
        if let Some(row) = row
            && matches!(row.why, Why::Deferral | Why::TaskMissing)
        {
            row.due = row.due.map(|due| due.min(now));
        }
    }
}

impl Shelf {
    fn replayed(&mut self, replayed: &Replayed) {
        let kept = self.letters.get_mut(&replayed.letter).expect("a letter");
        match &replayed.end {
            End::Waiting { wakeup } => kept.state = State::Waiting(*wakeup),
            End::Failed { letter, .. } => {
                *kept = Kept {
                    republish: kept.republish,
                    ..Kept::new((**letter).clone())
                }
            }
            End::Republished => {
                kept.state = State::Settled;
                self.dropped += u64::from(kept.letter.source == Source::Record);
            }
            End::Applied | End::Ignored => kept.state = State::Settled,
        }
    }
}
