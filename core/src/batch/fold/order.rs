//! Law 4 within a batch: which causes wait behind which, and whose turn is looked at when the batch is written.

use uuid::Uuid;

use super::Fold;
use super::holding::Holding;
use crate::cause::{Cause, Waited};
use crate::task::TaskId;
use crate::waiting::Rank;

impl Fold {
    /// Announces a cause of the batch. If it is the replay of a dead letter that holds its task, later messages of the task
    /// wait until it is decided.
    pub fn announce(&mut self, cause: &Cause) {
        let replay = cause
            .waited
            .as_ref()
            .and_then(|waited| Some((waited, waited.replay.as_ref()?)));
        if let Some((waited, replay)) = replay
            && replay.holds
            && !replay.is_waiting
        {
            self.holding.push(Holding {
                letter: replay.letter,
                task_id: waited.task_id.clone(),
                rank: waited.rank,
                is_missing: replay.was_missing,
            });
        }
    }

    /// Whether a cause has to wait behind an earlier one of its task. Such a cause is not decided. Timers never wait.
    pub fn is_blocked(&self, cause: &Cause) -> bool {
        self.stays_blocked(cause) || self.is_held(cause)
    }

    /// Whether a cause has to wait whatever becomes of the batch's causes before it: something waits ahead of it that no
    /// cause of this batch ends. One that isn't, and is blocked now, is only behind a replay that is decided before it.
    pub fn stays_blocked(&self, cause: &Cause) -> bool {
        let exists = self.task(&cause.task_id).is_some();
        let ahead = self.ahead.get(&cause.task_id);
        let first = ahead.and_then(|ahead| ahead.first(exists));
        cause.is_message() && first.is_some_and(|first| first < cause.rank())
    }

    /// Whether it is behind a dead letter that holds the task, and whose replay is still to be decided in this batch.
    fn is_held(&self, cause: &Cause) -> bool {
        let (rank, exists) = (cause.rank(), self.task(&cause.task_id).is_some());
        let own = cause
            .waited
            .as_ref()
            .and_then(|waited| Some(waited.replay.as_ref()?.letter));
        let mut holding = self.holding.iter();
        cause.is_message()
            && holding.any(|one| {
                one.task_id == cause.task_id
                    && Some(one.letter) != own
                    && one.rank < rank
                    && (exists || !one.is_missing)
            })
    }

    /// Makes a row wait for its turn that is due and blocked.
    pub fn turn(&mut self, task_id: &TaskId, wakeup: Uuid) {
        self.out.turned.insert(wakeup);
        self.out.settled.insert(task_id.clone());
    }

    /// From here on a cause of the batch waits: later messages of its task wait behind it.
    pub(super) fn waits(&mut self, task_id: &TaskId, rank: Rank, is_missing: bool) {
        self.ahead
            .entry(task_id.clone())
            .or_default()
            .add(rank, is_missing);
    }

    /// A cause of the batch is decided, or queued: whatever waits of its task is looked at when the batch is written.
    pub(super) fn settle(&mut self, cause: &Cause) {
        if let Some(replay) = cause
            .waited
            .as_ref()
            .and_then(|waited| waited.replay.as_ref())
        {
            self.holding.retain(|one| one.letter != replay.letter);
        }
        if !cause.is_message() {
            return;
        }
        let ahead = self.ahead.get(&cause.task_id);
        if cause.waited.is_some() || ahead.is_some_and(|ahead| !ahead.is_empty()) {
            self.out.settled.insert(cause.task_id.clone());
        }
        self.settle_row(cause.waited.as_ref());
    }

    pub(in crate::batch) fn settle_row(&mut self, waited: Option<&Waited>) {
        self.out
            .settled
            .extend(waited.map(|waited| waited.task_id.clone()));
    }
}
