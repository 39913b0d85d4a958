//! What a person gave up while it waited: a dead letter, and no plugin is asked.

use std::sync::Arc;

use super::{Fold, timer_as_message};
use crate::cause::{GivenUp, Stored};
use crate::dead_letter::{self, DeadLetter, Stage};
use crate::decision;
use crate::outcome::Outcome;
use crate::task::derived_id;

/// The code of its dead letter.
const CODE: &str = "given-up";

impl Fold {
    /// Takes a row that was given up.
    pub fn given_up(&mut self, given_up: &GivenUp) -> Outcome {
        let waited = &given_up.waited;
        let (message, source) = match &given_up.stored {
            Stored::Message(message) => (Arc::new(message.clone()), dead_letter::Source::Record),
            Stored::Timer(timer) => (
                Arc::new(timer_as_message(timer, &waited.task_id)),
                dead_letter::Source::Timer,
            ),
        };
        let replay = waited.replay.as_ref();
        let source = replay.map_or(source, |replay| replay.source);
        let is_message = source == dead_letter::Source::Record;
        let letter = DeadLetter {
            id: derived_id(given_up.seed, "dead-letter"),
            message,
            code: CODE.to_owned(),
            reason: decision::clean(&given_up.reason),
            backtrace: None,
            stage: Stage::Decide,
            attempts: waited.attempt.saturating_add(waited.tries),
            task_id: Some(waited.task_id.clone()),
            route: Some(given_up.route.clone()).filter(|route| !route.is_empty()),
            plugin: None,
            failed_at: self.now,
            source,
            replays: 0,
            sequence: is_message.then_some(waited.rank.sequence),
            holds: is_message && given_up.holds,
        };
        if letter.holds {
            self.waits(&waited.task_id, waited.rank, false);
        }
        self.dead_letter(letter, Some(waited));
        self.out.done.push(waited.wakeup);
        self.settle_row(Some(waited));
        if !is_message {
            self.out.counts.timers += 1;
            return Outcome::DeadLetter;
        }
        self.count(&given_up.route, Outcome::DeadLetter, Some(waited))
    }
}
