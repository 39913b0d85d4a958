//! What people do to the tables: they activate versions, replay or discard dead letters, and retry or give up what waits.

use taskhost::store::{Key, State};
use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::{Rank, Why};
use uuid::Uuid;

use super::tables::Tables;

impl Tables {
    /// Makes a version the active one of a route.
    pub fn activate(&mut self, route: &str, digest: &str) {
        let activations = self.activations.entry(route.to_owned()).or_default();
        activations.push(digest.to_owned());
    }

    /// The dead letters that are open, and with `parked` those that were replayed too often.
    pub fn open_letters(&self, parked: bool) -> Vec<Uuid> {
        let is_open = |state| state == State::Open || (parked && state == State::Parked);
        let open = self.letters.iter();
        open.filter(|(_, letter)| is_open(letter.stored.state))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Lets an open dead letter be decided again, under a new row.
    pub fn replay(&mut self, id: Uuid, row: Uuid) {
        self.asked += 1;
        let Some(letter) = self.letters.get_mut(&id) else {
            return;
        };
        if letter.stored.state != State::Open {
            return;
        }
        letter.stored.state = State::Replaying;
        letter.wakeup = Some(row);
        let stored = &letter.stored.letter;
        let unnamed = || TaskId::new(id.to_string()).ok();
        let Some(task_id) = stored.task_id.clone().or_else(unnamed) else {
            return;
        };
        let wakeup = Wakeup {
            id: row,
            kind: WakeupKind::Replay,
            task_id,
            name: None,
            route: stored.route.clone().unwrap_or_default(),
            due: None,
            counts_from: None,
            rank: Rank {
                sequence: stored.sequence.unwrap_or(i64::MAX),
                place: self.asked,
            },
            why: Why::Turn,
            attempt: 0,
            tries: 0,
            since: 0,
            since_worked: None,
            given_up_by: None,
            reason: String::new(),
            cause: Vec::new(),
        };
        let owner = letter.stored.owner.clone();
        self.rows.insert(row, (owner, wakeup));
    }

    /// The messages and timers that wait.
    pub fn waiting(&self) -> Vec<Uuid> {
        let waiting = self.rows.iter();
        waiting
            .filter(|(_, (_, row))| row.kind != WakeupKind::Replay)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Makes waiting messages due that have a time.
    pub fn retry(&mut self, ids: &[Uuid], now: i64) -> Vec<Uuid> {
        self.order(ids, |row| {
            let is_due = row.kind == WakeupKind::Deferred && row.due.is_some();
            if is_due {
                row.due = row.due.min(Some(now));
            }
            is_due
        })
    }

    /// Gives up what waits.
    pub fn give_up_waiting(&mut self, ids: &[Uuid], by: &str, now: i64) -> Vec<Uuid> {
        self.order(ids, |row| {
            let waits = row.kind != WakeupKind::Replay;
            if waits {
                row.due = row.due.map(|due| due.min(now));
                row.given_up_by = Some(by.to_owned());
            }
            waits
        })
    }

    /// The rows that an order reached.
    fn order(&mut self, ids: &[Uuid], reaches: impl Fn(&mut Wakeup) -> bool) -> Vec<Uuid> {
        let rows = self.rows.iter_mut();
        let asked = rows.filter(|(id, _)| ids.contains(id));
        asked
            .filter_map(|(id, (_, row))| reaches(row).then_some(*id))
            .collect()
    }

    /// The dead letters whose replay was asked for and not decided yet.
    pub fn replaying(&self) -> Vec<Uuid> {
        let letters = self.letters.iter();
        letters
            .filter(|(_, letter)| letter.stored.state == State::Replaying)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Takes the request for a replay back, if it was not decided yet.
    pub fn call_back(&mut self, id: Uuid) {
        let letter = self.letters.get_mut(&id);
        let Some(letter) = letter.filter(|it| it.stored.state == State::Replaying) else {
            return;
        };
        letter.stored.state = State::Open;
        if let Some(row) = letter.wakeup.take() {
            self.rows.remove(&row);
        }
    }

    /// Gives a dead letter up. What it held gets its turn.
    pub fn discard(&mut self, id: Uuid, now: i64) {
        let Some(letter) = self.letters.get_mut(&id) else {
            return;
        };
        if !matches!(letter.stored.state, State::Open | State::Parked) {
            return;
        }
        letter.stored.state = State::Discarded;
        let holds = letter.stored.letter.holds;
        let (owner, task): (Key, _) = (
            letter.stored.owner.clone(),
            letter.stored.letter.task_id.clone(),
        );
        if let Some(task) = task.filter(|_| holds) {
            self.give_turn(&owner, &task, now);
        }
    }
}
