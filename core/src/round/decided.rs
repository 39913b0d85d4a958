//! What a round came to.

use super::ground::Ground;
use super::tally::{Faulted, Tallies};
use crate::batch::WriteSet;
use crate::decision::Decision;
use crate::task::TaskId;
use crate::waiting::Why;

/// Decisions, ready to be written.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// What to write.
    pub set: WriteSet,
    /// How many of the items it covers, from the first.
    pub covered: usize,
    /// The plugins' faults, each found alone.
    pub faults: Vec<Faulted>,
    /// How many causes were decided for good, and how many of them were faults.
    pub tallies: Tallies,
    /// If they are kept: the answer to each item that was decided together with others.
    pub decisions: Vec<Option<Decision>>,
}

impl Round {
    /// The tasks whose change has to be looked for after the commit, each with the version that was decided on: 0 if there
    /// was no task. A change may have come between the reading and the commit of a deferral.
    pub fn waiting_for(&self, ground: &Ground) -> Vec<(TaskId, i64)> {
        let version = |id: &TaskId| {
            let changed = self.set.created.iter().chain(&self.set.updated);
            changed
                .chain(&ground.tasks)
                .find(|task| task.id == *id)
                .map_or(0, |task| task.version)
        };
        let waits = |why: Why| matches!(why, Why::Deferral | Why::TaskMissing);
        let began = self.set.waiting.iter().filter(|row| waits(row.why));
        let goes_on = self.set.postponed.iter().filter(|row| waits(row.why));
        began
            .map(|row| &row.task_id)
            .chain(goes_on.map(|row| &row.task_id))
            .map(|id| (id.clone(), version(id)))
            .collect()
    }
}
