//! Rows that wait in Postgres: which are due, which replays were asked for, and the dead letters that they stand for.

use std::collections::HashMap;

use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::round::{Letter, Letters};
use taskhost_core::waiting::{self, Caps, Why};
use uuid::Uuid;

use super::rounds::{From, Rows};
use super::{Failure, Worker};
use crate::clock::now;
use crate::store::StoredDeadLetter;

/// Rows that are taken at a time.
const ROWS_MAX: u32 = 500;

impl Worker {
    /// Decides what is due now, or else the replays that there are; false if nothing could be decided.
    pub(super) async fn work_off_rows(&mut self) -> Result<bool, Failure> {
        let asked = now();
        let rows = match self.read_due_rows(asked).await? {
            Some(rows) => Some(rows),
            None => self.read_replays(ROWS_MAX).await?,
        };
        let decided = match rows {
            Some(rows) => Some(Box::pin(self.decide_rows(rows)).await?),
            None => None,
        };
        let next = match decided {
            // What is due and can't be decided now is looked at again at the next tick.
            Some(false) => None,
            Some(true) => self.shared.ledger.next_due(&self.key).await?,
            // A replay whose dead letter is gone is due, and nothing to decide. Retention removes it.
            None => {
                let next = self.shared.ledger.next_due(&self.key).await?;
                next.filter(|due| *due > asked)
            }
        };
        self.claimed.waiting.next_due = next;
        Ok(decided == Some(true))
    }

    async fn decide_rows(&mut self, rows: Rows) -> Result<bool, Failure> {
        let stranded = rows.list.iter().any(|row| row.why == Why::Stranded);
        let decided = self.round(&From::Rows(rows)).await?;
        if stranded {
            self.count_stranded().await?;
        }
        Ok(decided)
    }

    /// The rows that are due and may be decided; none if nothing is due.
    async fn read_due_rows(&mut self, now: i64) -> Result<Option<Rows>, Failure> {
        let ledger = &self.shared.ledger;
        let due = ledger.due_chains(&self.key, now, ROWS_MAX).await?;
        let bytes = u64::try_from(self.shared.rules.bytes_max).unwrap_or(u64::MAX);
        let count = usize::try_from(ROWS_MAX).unwrap_or(usize::MAX);
        let selection = waiting::select(&due.chains, now, Caps { count, bytes });
        let room = count - selection.taken.len();
        let mut ids = selection.taken;
        ids.extend(due.timers.into_iter().take(room));
        if ids.is_empty() && selection.blocked.is_empty() {
            return Ok(None);
        }
        let list = match ids.is_empty() {
            true => Vec::new(),
            false => ledger.waiting_rows(&self.key, &ids).await?,
        };
        let letters = self.read_letters(&list).await?;
        Ok(Some(Rows {
            letters,
            list,
            blocked: selection.blocked,
        }))
    }

    /// Dead letters that are to be decided again, at most so many; none if there are none.
    async fn read_replays(&mut self, most: u32) -> Result<Option<Rows>, Failure> {
        let bytes_max = u64::try_from(self.shared.rules.bytes_max).unwrap_or(u64::MAX);
        let ledger = &self.shared.ledger;
        let due = ledger
            .due_replays(&self.key, now(), most, bytes_max)
            .await?;
        if due.is_empty() {
            return Ok(None);
        }
        let mut rows = Rows::default();
        for replay in due {
            let letter = letter(replay.letter);
            rows.letters.0.insert(replay.wakeup.id, letter);
            rows.list.push(replay.wakeup);
        }
        Ok(Some(rows))
    }

    /// The name of the route of the next row that is due, or of the next replay.
    pub(super) async fn read_next_row_route(&mut self) -> Result<Option<String>, Failure> {
        let is_due = self
            .claimed
            .waiting
            .next_due
            .is_some_and(|due| due <= now());
        let rows = match is_due {
            true => self.read_due_rows(now()).await?,
            false => None,
        };
        let rows = match rows.filter(|rows| !rows.list.is_empty()) {
            Some(rows) => Some(rows),
            None => self.read_replays(1).await?,
        };
        Ok(rows.and_then(|rows| Some(rows.list.into_iter().next()?.route)))
    }

    /// The dead letters among the rows: their replays wait.
    async fn read_letters(&mut self, rows: &[Wakeup]) -> Result<Letters, Failure> {
        let messages = rows.iter().filter(|row| row.kind == WakeupKind::Deferred);
        let ids: Vec<Uuid> = messages.map(|row| row.id).collect();
        if ids.is_empty() {
            return Ok(Letters::default());
        }
        let stored: HashMap<Uuid, StoredDeadLetter> =
            self.shared.ledger.replays_of(&self.key.group, &ids).await?;
        let letters = stored.into_iter().map(|(id, stored)| (id, letter(stored)));
        Ok(Letters(letters.collect()))
    }
}

fn letter(stored: StoredDeadLetter) -> Letter {
    Letter {
        message: stored.message(),
        republish: stored.republish,
        letter: stored.letter,
    }
}
