//! Reading what a round is decided on, and committing it: the checks of `taskhost_commit_1`, in its order.

use std::collections::HashMap;

use taskhost::mutant::{self, Mutant};
use taskhost::store::{
    Checkpoint, Commitment, Epoch, Error, Key, NewStart, Question, Read, State, StoredDeadLetter,
};
use taskhost_core::batch::{Postponed, Wakeup, WakeupKind, WriteSet};
use taskhost_core::dead_letter::DeadLetter;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::replay::{End, Replayed};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::Why;
use uuid::Uuid;

use super::tables::{Letter, Result, Tables};

/// A text that stands for one that Postgres refuses, as it refuses a NUL.
pub const UNSTORABLE: &str = "unstorable";

/// A [`Question`] that has left its host.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) epoch: Epoch,
    pub(crate) tasks: Vec<TaskId>,
    rows: Vec<Uuid>,
    letters: Vec<Uuid>,
    ahead: bool,
}

impl From<Question<'_>> for Asked {
    fn from(question: Question<'_>) -> Self {
        Self {
            epoch: question.epoch,
            tasks: question.tasks.to_vec(),
            rows: question.rows.to_vec(),
            letters: question.letters.to_vec(),
            ahead: question.ahead,
        }
    }
}

/// A [`Commitment`] that has left its host.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    owner: (Epoch, Checkpoint),
    pub(crate) set: WriteSet,
    tasks: HashMap<TaskId, i64>,
    rows: Vec<Uuid>,
    activations: Vec<(String, i64)>,
    starts: Vec<NewStart>,
    now: i64,
    worked: i64,
    pub(crate) frame: Frame,
    token: Uuid,
    published: Option<BatchNumber>,
}

impl From<Commitment<'_>> for Sent {
    fn from(commitment: Commitment<'_>) -> Self {
        let seen = commitment.seen;
        let tasks = seen.tasks.into_iter();
        let activations = seen.activations.iter();
        Self {
            owner: commitment.owner,
            set: commitment.set.clone(),
            tasks: tasks.map(|(id, version)| (id.clone(), version)).collect(),
            rows: seen.rows.to_vec(),
            activations: activations
                .map(|(route, number)| ((*route).to_owned(), *number))
                .collect(),
            starts: commitment.starts.to_vec(),
            now: commitment.now,
            worked: commitment.worked,
            frame: commitment.frame,
            token: commitment.token,
            published: commitment.published,
        }
    }
}

impl Tables {
    pub(crate) fn read(&mut self, key: &Key, asked: &Asked) -> Result<Read> {
        let claims = self.progress.get(key);
        let epoch = match mutant::is_armed(Mutant::Epoch) {
            true => claims.map_or(0, |row| row.epoch),
            false => asked.epoch,
        };
        let row = self.owned(key, epoch)?;
        let checkpoint = checkpoint(row);
        let ahead = match asked.ahead {
            true => self.ahead(key, &asked.tasks, &asked.rows, &asked.letters),
            false => HashMap::new(),
        };
        let tasks = asked.tasks.iter();
        Ok(Read {
            checkpoint,
            tasks: tasks.filter_map(|id| self.tasks.get(id).cloned()).collect(),
            rows: self.waiting_rows(key, &asked.rows).len(),
            ahead,
        })
    }

    /// Commits a round. After an error nothing has changed.
    pub(crate) fn commit(&mut self, key: &Key, sent: &Sent) -> Result<()> {
        let committed = self.check_and_write(key, sent);
        let code = match &committed {
            Ok(()) => "committed",
            Err(Error::Lost) => "TH001",
            Err(Error::Conflict { .. }) => "TH002",
            Err(Error::RowsGone) => "TH003",
            Err(Error::Activated) => "TH004",
            Err(Error::CreationRaced { .. }) => "TH005",
            Err(_) => "a value that is refused",
        };
        *self.seen.entry(code).or_default() += 1;
        committed
    }

    fn check_and_write(&mut self, key: &Key, sent: &Sent) -> Result<()> {
        self.check_progress(key, sent)?;
        self.check_tasks(sent)?;
        self.check_rows(key, sent)?;
        self.check_activations(sent)?;
        self.check_created(sent)?;
        self.check_values(sent)?;
        self.write(key, sent)?;
        self.advance(key, sent);
        Ok(())
    }

    fn check_progress(&mut self, key: &Key, sent: &Sent) -> Result<()> {
        if mutant::is_armed(Mutant::Epoch) {
            return Ok(());
        }
        let (epoch, left) = sent.owner;
        let row = self.owned(key, epoch)?;
        match checkpoint(row) == left {
            true => Ok(()),
            false => Err(Error::Lost),
        }
    }

    fn check_tasks(&self, sent: &Sent) -> Result<()> {
        if mutant::is_armed(Mutant::Version) {
            return Ok(());
        }
        let changed = sent.set.updated.iter().filter(|task| {
            let stored = self.tasks.get(&task.id).map(|task| task.version);
            stored.is_none() || stored != sent.tasks.get(&task.id).copied()
        });
        let tasks: Vec<TaskId> = changed.map(|task| task.id.clone()).collect();
        match tasks.is_empty() {
            true => Ok(()),
            false => Err(Error::Conflict { tasks }),
        }
    }

    fn check_rows(&self, key: &Key, sent: &Sent) -> Result<()> {
        let found = self.waiting_rows(key, &sent.rows).len();
        match found == sent.rows.len() || mutant::is_armed(Mutant::Rows) {
            true => Ok(()),
            false => Err(Error::RowsGone),
        }
    }

    fn check_activations(&self, sent: &Sent) -> Result<()> {
        let is_current = |(route, number): &(String, i64)| {
            let activations = self.activations.get(route).map_or(0, Vec::len);
            i64::try_from(activations) == Ok(*number)
        };
        match sent.activations.iter().all(is_current) || mutant::is_armed(Mutant::Activation) {
            true => Ok(()),
            false => Err(Error::Activated),
        }
    }

    fn check_created(&self, sent: &Sent) -> Result<()> {
        let created = &sent.set.created;
        let there = created
            .iter()
            .filter(|task| self.tasks.contains_key(&task.id));
        match there.count() {
            0 => Ok(()),
            missing => Err(Error::CreationRaced {
                expected: u64::try_from(created.len()).unwrap_or(u64::MAX),
                missing: u64::try_from(missing).unwrap_or(u64::MAX),
            }),
        }
    }

    fn check_values(&self, sent: &Sent) -> Result<()> {
        let mut tasks = sent.set.created.iter().chain(&sent.set.updated);
        if tasks.any(|task| task.data.contains(UNSTORABLE)) {
            return Err(refused("22P05", "tasks"));
        }
        Ok(())
    }

    fn write(&mut self, key: &Key, sent: &Sent) -> Result<()> {
        let set = &sent.set;
        let new = || {
            let timers = set.timers.values().flatten();
            set.waiting.iter().chain(timers)
        };
        let is_replaced = |row: &Wakeup| is_unset(set, row) || set.done.contains(&row.id);
        let is_taken = |row: &Wakeup| {
            let stored = self.rows.get(&row.id);
            stored.is_some_and(|(_, stored)| !is_replaced(stored))
        };
        if new().any(is_taken) {
            return Err(refused("23505", "wakeups"));
        }
        for task in set.created.iter().chain(&set.updated) {
            self.tasks.insert(task.id.clone(), task.clone());
        }
        for event in &set.events {
            let active = self.activations.get(&*event.cause.topic);
            let active = active.and_then(|all| all.last());
            if active != Some(&event.plugin.digest) {
                let (id, by) = (event.id(), &event.plugin.digest);
                self.outdated
                    .push(format!("{id} by {by} while {active:?} is active"));
            }
        }
        self.events.extend(set.events.iter().cloned());
        for why in set.waiting.iter().map(|row| row.why) {
            *self.seen.entry(why.name()).or_default() += 1;
        }
        for why in set.postponed.iter().map(|row| row.why) {
            *self.seen.entry(why.name()).or_default() += 1;
        }
        self.rows.retain(|_, (_, row)| !is_replaced(row));
        for row in new() {
            self.rows.insert(row.id, (key.clone(), row.clone()));
        }
        for postponed in &set.postponed {
            if let Some((_, row)) = self.rows.get_mut(&postponed.id) {
                postpone(row, postponed, sent.now);
            }
        }
        for id in &set.turned {
            if let Some((_, row)) = self.rows.get_mut(id)
                && row.kind == WakeupKind::Deferred
            {
                row.why = Why::Turn;
                row.due = None;
                row.counts_from = None;
            }
        }
        for letter in &set.dead_letters {
            self.give_up(key, letter, sent.now);
        }
        for replayed in &set.replayed {
            self.end_replay(replayed);
        }
        if !mutant::is_armed(Mutant::Settle) {
            for task in &set.settled {
                self.give_turn(key, task, sent.now);
            }
        }
        Ok(())
    }

    /// Stores a dead letter. A record that was given up before, and is read again, keeps its row.
    fn give_up(&mut self, key: &Key, letter: &DeadLetter, now: i64) {
        if let Some(known) = self.letters.get_mut(&letter.id) {
            known.stored.letter = DeadLetter {
                message: known.stored.letter.message.clone(),
                source: known.stored.letter.source,
                replays: known.stored.letter.replays,
                ..letter.clone()
            };
            if known.wakeup.is_none() {
                known.stored.state = State::Open;
            }
            return;
        }
        let stored = StoredDeadLetter {
            owner: key.clone(),
            letter: letter.clone(),
            created_at: now,
            state: State::Open,
            state_at: now,
            republish: false,
            edits: 0,
            edited_value: None,
            decided_by: None,
            note: None,
            imported: None,
        };
        let letter_row = Letter {
            stored,
            wakeup: None,
        };
        self.letters.insert(letter.id, letter_row);
    }

    fn end_replay(&mut self, replayed: &Replayed) {
        let Some(row) = self.letters.get_mut(&replayed.letter) else {
            return;
        };
        let stored = &mut row.stored;
        stored.state = State::from_name(replayed.end.state()).unwrap_or(State::Open);
        stored.republish = false;
        row.wakeup = None;
        match &replayed.end {
            End::Waiting { wakeup } => row.wakeup = Some(*wakeup),
            End::Republished => {}
            End::Failed { letter, .. } => {
                stored.letter.replays += 1;
                stored.letter = DeadLetter {
                    code: letter.code.clone(),
                    reason: letter.reason.clone(),
                    backtrace: letter.backtrace.clone(),
                    stage: letter.stage,
                    attempts: letter.attempts,
                    task_id: letter.task_id.clone(),
                    route: letter.route.clone(),
                    plugin: letter.plugin.clone(),
                    ..stored.letter.clone()
                };
            }
            End::Applied | End::Ignored => stored.letter.replays += 1,
        }
    }

    fn advance(&mut self, key: &Key, sent: &Sent) {
        for start in &sent.starts {
            self.starts
                .insert((key.clone(), start.route.clone(), start.number));
        }
        let Some(row) = self.progress.get_mut(key) else {
            return;
        };
        let published = sent.published.filter(|batch| *batch <= row.at.batch);
        row.at.published = row.at.published.max(published);
        row.at.batch += 1;
        row.at.next_offset = Some(sent.frame.next_offset);
        row.at.token = Some(sent.token);
        row.worked = row.worked.max(sent.worked);
        row.counts += sent.set.counts;
        let batch = row.at.batch;
        let frame = Frame {
            batch,
            ..sent.frame.clone()
        };
        self.outbox.insert((key.clone(), batch), frame);
    }
}

fn checkpoint(row: &super::tables::Progress) -> Checkpoint {
    Checkpoint {
        batch: row.at.batch,
        next_offset: row.at.next_offset.unwrap_or(0),
        token: row.at.token,
    }
}

/// Whether a batch sets or cancels this timer, whoever owns it.
fn is_unset(set: &WriteSet, row: &Wakeup) -> bool {
    let name = row.name.as_ref().filter(|_| row.kind == WakeupKind::Timer);
    name.is_some_and(|name| {
        let timer = (row.task_id.clone(), name.clone());
        set.timers.contains_key(&timer)
    })
}

fn refused(code: &str, table: &str) -> Error {
    Error::Refused {
        code: code.to_owned(),
        message: "as Postgres would".to_owned(),
        table: Some(table.to_owned()),
    }
}

/// A row that waits again.
fn postpone(row: &mut Wakeup, postponed: &Postponed, now: i64) {
    row.due = Some(match row.given_up_by {
        None => postponed.due,
        Some(_) => now,
    });
    row.counts_from = Some(postponed.due);
    row.attempt = postponed.attempt;
    row.reason.clone_from(&postponed.reason);
    row.why = postponed.why;
    row.tries = postponed.tries;
    row.since_worked = postponed.since_worked;
    row.task_id = postponed.task_id.clone();
}
