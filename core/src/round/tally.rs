//! What became of the causes that a plugin was asked about, counted for the breakers of the routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ground::Ground;
use crate::batch::Decider;
use crate::cause::Cause;
use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::record::Position;
use crate::route_breaker::Tally;
use crate::task::TaskId;
use crate::waiting::Why;

/// A plugin's fault at one cause.
#[derive(Debug, Clone)]
pub struct Faulted {
    /// Which plugin, on which route.
    pub decider: Arc<Decider>,
    /// What happened.
    pub fault: Fault,
    /// The record, or the one whose decision set the timer.
    pub position: Position,
    /// The task that the cause is for.
    pub task_id: TaskId,
    /// What became of the cause.
    pub fate: Fate,
}

/// What becomes of a cause at which a plugin faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was given up.
    DeadLetter,
    /// It exceeded its deadline and waits for another try.
    TriedAgain,
    /// It waits for the end of the plugin's probation.
    Held,
}

impl Fate {
    /// By how the fault was taken.
    pub(super) fn of(taken: &Result<Outcome, Fault>, tries_again: bool) -> Self {
        match taken {
            Ok(Outcome::Deferred) if tries_again => Self::TriedAgain,
            Ok(Outcome::Deferred) => Self::Held,
            _ => Self::DeadLetter,
        }
    }
}

/// How many causes were decided for good and how many of them were faults, by the route's number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallies(pub BTreeMap<usize, Tally>);

impl Tallies {
    /// A route's tally.
    pub fn of(&self, route: usize) -> Tally {
        self.0.get(&route).copied().unwrap_or_default()
    }

    /// Counts a decision, or what became of a cause at which the plugin faulted. A deadline that is tried again doesn't
    /// count yet. What was counted before doesn't count again: a dead letter's replay, and what was held, once the
    /// probation is over. For a probe both count, as there may be nothing else to try.
    pub(super) fn count(
        &mut self,
        cause: &Cause,
        fate: Option<Fate>,
        ground: &Ground,
        decider: &Decider,
    ) {
        let was_held = cause
            .waited
            .as_ref()
            .is_some_and(|waited| waited.why == Why::Held);
        let again = cause.is_new_replay() || (was_held && decider.hold.is_none());
        if fate != Some(Fate::TriedAgain) && (!again || ground.is_probe) {
            let tally = self.0.entry(cause.route).or_default();
            tally.decided += 1;
            tally.faults += u64::from(fate.is_some());
        }
    }

    /// Whether the route's breaker will open by this batch, whatever becomes of the `rest` of it.
    pub(super) fn is_hopeless(&self, route: usize, rest: usize, ground: &Ground) -> bool {
        let rest = u64::try_from(rest).unwrap_or(u64::MAX);
        let breaker = ground.breakers.get(&route);
        breaker.is_some_and(|breaker| breaker.is_certain(self.of(route), rest))
    }
}
