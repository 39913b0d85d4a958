//! A world of one partition, whose messages each name what the rule does.

use std::sync::Arc;

use proptest::prelude::*;
use taskhost_core::batch::Wakeup;
use taskhost_core::cause::{self, Cause};
use taskhost_core::dead_letter::DeadLetter;
use taskhost_core::envelope::Undecodable;
use taskhost_core::outcome::Counts;
use taskhost_core::record::Message;
use taskhost_core::round::{Ask, Rung, Unanswered, decide};

use crate::plugin::{Asked, Plugin, TOPIC_ID, message, named_rule, routes, trace};
use crate::store::Store;
use crate::world::{Origin, World};

pub(crate) fn messages() -> impl Strategy<Value = Vec<(u8, Asked)>> {
    let asked = prop_oneof![
        4 => Just(Asked::Create),
        4 => Just(Asked::Step),
        2 => Just(Asked::Close),
        1 => Just(Asked::Defer),
        1 => Just(Asked::Reject),
        1 => Just(Asked::Fault),
        1 => Just(Asked::Slow),
        1 => Just(Asked::BadAnswer),
        1 => Just(Asked::Garbage),
    ];
    proptest::collection::vec((0u8..5, asked), 0..40)
}

/// The log that the messages make.
pub(crate) fn log(asked: &[(u8, Asked)]) -> Vec<Arc<Message>> {
    let numbered = (0..).zip(asked);
    numbered
        .map(|(offset, (id, asked))| message(offset, *id, *asked))
        .collect()
}

/// The cause of a record.
pub(crate) fn cause(message: &Arc<Message>) -> Result<Cause, Undecodable> {
    let plugin = Plugin::new(named_rule());
    let descriptor = |route| plugin.decider(route).descriptor.clone();
    cause::of_message(message, &routes(), TOPIC_ID, descriptor, |_| trace())
}

impl World {
    pub(crate) fn solo() -> Self {
        Self::new(1, named_rule())
    }

    /// Decides a run of messages as one batch, as far as it is not cut.
    pub(crate) fn batch(&mut self, messages: &[Arc<Message>]) {
        self.log[0].extend(messages.iter().cloned());
        while self.turn(0, Origin::Log, messages.len()).expect("a round") {}
    }

    /// Decides them on a rung of its own, in pieces of so many.
    pub(crate) fn batch_in_pieces(&mut self, messages: &[Arc<Message>], piece: usize) {
        self.log[0].extend(messages.iter().cloned());
        let mut rung = Rung::Together { piece };
        loop {
            let picks = self.records(0, messages.len());
            let settings = self.settings[0].clone();
            let items = self.store.items(0, &picks, &settings, &self.plugin);
            if items.is_empty() {
                return;
            }
            let ground = self
                .store
                .ground(0, &items, &settings, self.now, self.worked);
            match decide(&items, &ground, &rung, &self.plugin) {
                Ok(round) => {
                    let (set, covered) = (&round.set, round.covered);
                    let committed = self.store.commit(0, self.now, set, &ground.tasks, covered);
                    committed.expect("nobody else writes");
                    rung = Rung::Together { piece };
                }
                Err(Unanswered::Fault(_)) => rung = Rung::OneByOne,
                Err(machine) => panic!("{machine}"),
            }
        }
    }

    /// Goes on to the time when something is due, and decides so many at a time until nothing is.
    pub(crate) fn wake(&mut self, count: usize) {
        let rows = self.rows();
        let Some(due) = rows.iter().filter_map(|row| row.due).min() else {
            return;
        };
        self.now = self.now.max(due);
        while self.turn(0, Origin::Rows, count).expect("a round") {}
    }

    /// What waits, by rank.
    pub(crate) fn rows(&self) -> Vec<Wakeup> {
        let mut rows: Vec<Wakeup> = self.store.shelves[0].rows.values().cloned().collect();
        rows.sort_by_key(|row| row.rank);
        rows
    }

    /// Changes the first row.
    pub(crate) fn change_first(&mut self, change: impl FnOnce(&mut Wakeup)) {
        let first = self.rows()[0].id;
        change(self.store.shelves[0].rows.get_mut(&first).expect("a row"));
    }

    pub(crate) fn counts(&self) -> Counts {
        self.store.shelves[0].counts
    }

    pub(crate) fn letters(&self) -> Vec<DeadLetter> {
        let kept = self.store.shelves[0].letters.values();
        let mut letters: Vec<DeadLetter> = kept.map(|kept| kept.letter.clone()).collect();
        letters.sort_by_key(|letter| letter.message.position.offset);
        letters
    }

    /// The store, but for the order between tasks, which the order of their turns decides.
    pub(crate) fn by_task(&self) -> Store {
        let mut sorted = self.store.clone();
        sorted.events.sort_by(|a, b| a.task_id.cmp(&b.task_id));
        sorted.records.sort_by_key(|record| format!("{record:?}"));
        sorted
    }
}
