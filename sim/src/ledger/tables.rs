//! Postgres' tables in memory, with the meaning that the host's SQL gives them. Each method is one transaction: it checks
//! everything, then does everything or nothing.

use std::collections::{BTreeMap, BTreeSet};

use taskhost::store::{Claim, Epoch, Error, Key, Started, StoredDeadLetter};
use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::dead_letter::TASK_MISSING;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::halt::Halt;
use taskhost_core::outcome::Counts;
use taskhost_core::record::Offset;
use taskhost_core::recovery;
use taskhost_core::task::{Task, TaskEvent, TaskId};
use taskhost_core::waiting::{Ahead, Rank, Why};
use uuid::Uuid;

/// The result of a call.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Everything that Postgres keeps.
#[derive(Debug, Default)]
pub struct Tables {
    /// Progress of partitions.
    pub progress: BTreeMap<Key, Progress>,
    /// Tasks.
    pub tasks: BTreeMap<TaskId, Task>,
    /// The history, in the order of its commits.
    pub events: Vec<TaskEvent>,
    /// What waits, with whose it is.
    pub rows: BTreeMap<Uuid, (Key, Wakeup)>,
    /// Dead letters, each with the row that stands for it.
    pub letters: BTreeMap<Uuid, Letter>,
    /// Frames that are stored.
    pub outbox: BTreeMap<(Key, BatchNumber), Frame>,
    /// Each route's activations, oldest first, by digest.
    pub activations: BTreeMap<String, Vec<String>>,
    /// Activations that took effect.
    pub starts: BTreeSet<(Key, String, i64)>,
    /// How many rows were ever asked for by people.
    pub asked: i64,
    /// Events of a version of a plugin that was not the active one when they were committed.
    pub outdated: Vec<String>,
    /// How often what happened: refusals by their code, and what rows waited for.
    pub seen: BTreeMap<&'static str, u64>,
}

/// A dead letter's row.
#[derive(Debug, Clone)]
pub struct Letter {
    /// What the host reads of it.
    pub stored: StoredDeadLetter,
    /// The wakeup that stands for it while it is decided again.
    pub wakeup: Option<Uuid>,
}

/// A partition's row.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Number of the last claim.
    pub epoch: Epoch,
    /// Transactional ids that may have a transaction open.
    pub owners: Vec<String>,
    /// Where it is.
    pub at: recovery::Progress,
    /// How long it has worked.
    pub worked: i64,
    /// How its records ended.
    pub counts: Counts,
    /// Why it halted, if it did.
    pub halted: Option<Halt>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            epoch: 0,
            owners: Vec::new(),
            at: recovery::Progress {
                topic_id: None,
                next_offset: None,
                batch: 0,
                token: None,
                published: None,
                decided_watermark: None,
            },
            worked: 0,
            counts: Counts::default(),
            halted: None,
        }
    }
}

impl Letter {
    /// Whether it holds its task.
    pub(crate) fn holds(&self) -> bool {
        use taskhost::store::State as S;
        self.stored.letter.holds && matches!(self.stored.state, S::Open | S::Replaying | S::Parked)
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.stored.letter.code == TASK_MISSING
    }
}

impl Tables {
    /// A claim.
    pub(crate) fn claim(&mut self, key: &Key, own_ids: &[String]) -> Claim {
        let progress = self.progress.entry(key.clone()).or_default();
        let previous_owners = progress.owners.clone();
        progress.epoch += 1;
        for own in own_ids {
            if !previous_owners.contains(own) {
                progress.owners.push(own.clone());
            }
        }
        let progress = progress.clone();
        let starts = self.starts.iter().filter(|(owner, _, _)| owner == key);
        let mut started = Started::new();
        for (_, route, number) in starts {
            let last = started.entry(route.clone()).or_insert(*number);
            *last = (*last).max(*number);
        }
        let waiting = self.deferred(key).count();
        Claim {
            epoch: progress.epoch,
            previous_owners,
            progress: progress.at,
            waiting: i64::try_from(waiting).unwrap_or(i64::MAX),
            holding: self
                .letters
                .values()
                .any(|letter| letter.stored.owner == *key && letter.holds()),
            worked: progress.worked,
            unresolved: progress.halted.is_some() || progress.at.decided_watermark.is_some(),
            started,
        }
    }

    pub(crate) fn topic_known(&self, group: &str, topic: &str) -> bool {
        let mut rows = self.progress.iter();
        rows.any(|(key, row)| {
            (&*key.group, &*key.partition.topic) == (group, topic) && row.at.next_offset.is_some()
        })
    }

    /// The partition's row, if it is still of that claim.
    pub(crate) fn owned(&mut self, key: &Key, epoch: Epoch) -> Result<&mut Progress> {
        let row = self.progress.get_mut(key);
        row.filter(|row| row.epoch == epoch).ok_or(Error::Lost)
    }

    pub(crate) fn start(
        &mut self,
        key: &Key,
        epoch: Epoch,
        from: Offset,
        topic_id: Uuid,
    ) -> Result<()> {
        let row = self.owned(key, epoch)?;
        if row.at.next_offset.is_some() {
            return Err(Error::Lost);
        }
        row.at.next_offset = Some(from);
        row.at.topic_id = Some(topic_id);
        Ok(())
    }

    pub(crate) fn own_alone(&mut self, key: &Key, epoch: Epoch, own_ids: &[String]) -> Result<()> {
        self.owned(key, epoch)?.owners = own_ids.to_vec();
        Ok(())
    }

    pub(crate) fn release(&mut self, key: &Key, epoch: Epoch, own_ids: &[String]) -> bool {
        let row = self.owned(key, epoch);
        let row = row.map(|row| row.owners.retain(|id| !own_ids.contains(id)));
        row.is_ok()
    }

    pub(crate) fn halt(&mut self, key: &Key, epoch: Epoch, halt: &Halt) -> Result<()> {
        self.owned(key, epoch)?.halted = Some(halt.clone());
        Ok(())
    }

    pub(crate) fn is_halted(&self, key: &Key) -> bool {
        let row = self.progress.get(key);
        row.is_some_and(|row| row.halted.is_some())
    }

    pub(crate) fn recovered(&mut self, key: &Key, epoch: Epoch) -> Result<()> {
        let row = self.owned(key, epoch)?;
        row.halted = None;
        row.at.decided_watermark = None;
        Ok(())
    }

    pub(crate) fn set_published(&mut self, key: &Key, batch: BatchNumber) -> bool {
        let row = self.progress.get_mut(key);
        let row = row.filter(|row| {
            row.at.batch >= batch && row.at.published.is_none_or(|known| known < batch)
        });
        let raised = row.map(|row| row.at.published = Some(batch));
        raised.is_some()
    }

    pub(crate) fn frames(&self, key: &Key, first: BatchNumber, last: BatchNumber) -> Vec<Frame> {
        let range = (key.clone(), first)..=(key.clone(), last);
        match first <= last {
            true => self.outbox.range(range).map(|(_, it)| it.clone()).collect(),
            false => Vec::new(),
        }
    }

    pub(crate) fn trim(&mut self, key: &Key, up_to: BatchNumber) -> u64 {
        let before = self.outbox.len();
        self.outbox
            .retain(|(owner, batch), _| owner != key || *batch > up_to);
        u64::try_from(before - self.outbox.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn settle(&self, key: &Key, token: Uuid) -> bool {
        let row = self.progress.get(key);
        row.is_some_and(|row| row.at.token == Some(token))
    }

    pub(crate) fn next_due(&self, key: &Key) -> Option<i64> {
        let rows = || self.rows_of(key);
        match rows().any(|row| row.kind == WakeupKind::Replay && row.due.is_none()) {
            true => Some(0),
            false => rows().filter_map(|row| row.due).min(),
        }
    }

    pub(crate) fn next_due_of_own(
        &self,
        key: &Key,
        epoch: Epoch,
        own_ids: &[String],
    ) -> Result<Option<i64>> {
        let Some(row) = self.progress.get(key) else {
            return Ok(None);
        };
        let moved = row.epoch != epoch && row.owners.iter().all(|id| own_ids.contains(id));
        match moved {
            true => Err(Error::Lost),
            false => Ok(self.next_due(key)),
        }
    }

    pub(crate) fn strand(
        &mut self,
        key: &Key,
        epoch: Epoch,
        rows: &[(Uuid, String)],
        due: i64,
    ) -> u64 {
        if self.owned(key, epoch).is_err() {
            return 0;
        }
        let mut stranded = 0;
        for (id, reason) in rows {
            let row = self.rows.get_mut(id).filter(|(owner, _)| owner == key);
            if let Some((_, row)) = row {
                let is_timed = row.due.is_some() || row.kind == WakeupKind::Replay;
                row.due = is_timed.then_some(due);
                row.why = Why::Stranded;
                row.reason.clone_from(reason);
                stranded += 1;
            }
        }
        stranded
    }

    pub(crate) fn count_stranded(&self, key: &Key) -> (i64, Option<String>) {
        let stranded = || self.rows_of(key).filter(|row| row.why == Why::Stranded);
        let count = i64::try_from(stranded().count()).unwrap_or(i64::MAX);
        (count, stranded().map(|row| row.reason.clone()).min())
    }

    pub(crate) fn set_worked(&mut self, key: &Key, epoch: Epoch, worked: i64) {
        if let Ok(row) = self.owned(key, epoch) {
            row.worked = row.worked.max(worked);
        }
    }

    pub(crate) fn changed(&self, tasks: &[(TaskId, i64)]) -> Vec<TaskId> {
        let changed = tasks.iter().filter(|(id, seen)| {
            let task = self.tasks.get(id);
            task.is_some_and(|task| task.version > *seen)
        });
        changed.map(|(id, _)| id.clone()).collect()
    }

    /// A partition's rows.
    pub(crate) fn rows_of(&self, key: &Key) -> impl Iterator<Item = &Wakeup> {
        let rows = self.rows.values();
        rows.filter(move |(owner, _)| owner == key)
            .map(|(_, row)| row)
    }

    /// A partition's messages that wait.
    pub(crate) fn deferred(&self, key: &Key) -> impl Iterator<Item = &Wakeup> {
        self.rows_of(key)
            .filter(|row| row.kind == WakeupKind::Deferred)
    }

    /// A task's messages that wait in a partition, in order.
    pub(crate) fn chain<'a>(&'a self, key: &'a Key, task: &'a TaskId) -> Vec<&'a Wakeup> {
        let rows = self.deferred(key).filter(|row| row.task_id == *task);
        let mut rows: Vec<&Wakeup> = rows.collect();
        rows.sort_by_key(|row| row.rank);
        rows
    }

    /// The first dead letters that hold a task in a partition, but for these.
    pub(crate) fn letters_ahead(&self, key: &Key, task: &TaskId, but: &[Uuid]) -> Ahead {
        let mut ahead = Ahead::default();
        for (id, letter) in &self.letters {
            let of_task = letter.stored.letter.task_id.as_ref() == Some(task);
            if letter.stored.owner != *key || !of_task || !letter.holds() || but.contains(id) {
                continue;
            }
            if let Some(sequence) = letter.stored.letter.sequence {
                ahead.add(Rank::of_record(sequence), letter.is_missing());
            }
        }
        ahead
    }
}
