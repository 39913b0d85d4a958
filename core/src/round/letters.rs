//! Dead letters that are decided again → items.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::item::{self, Item, Reading};
use crate::batch::{Wakeup, WakeupKind};
use crate::cause::{self, Cause, Route, Stored, Waited};
use crate::dead_letter::{DeadLetter, Replay, Source, TASK_MISSING};
use crate::record::Message;
use crate::replay;

/// A dead letter as its replay takes it.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its row.
    pub letter: DeadLetter,
    /// Its message, as it was edited last.
    pub message: Arc<Message>,
    /// Whether it is sent to its topic again instead of being decided.
    pub republish: bool,
}

/// The dead letters that rows stand for, by the row's id.
#[derive(Debug, Clone, Default)]
pub struct Letters(pub HashMap<Uuid, Letter>);

impl Letters {
    /// The one that a row stands for.
    pub fn of(&self, row: &Wakeup) -> Option<&Letter> {
        self.0.get(&row.id)
    }
}

impl Letter {
    /// What the round is about; or why this host can't decide it: then it waits.
    pub(super) fn item(&self, row: &Wakeup, reading: &Reading<'_>) -> Result<Item, String> {
        let (letter, message) = (&self.letter, self.message.clone());
        let waited = row.waited(Some(self.replay(row)));
        if self.republish || letter.source == Source::Outgoing {
            return Ok(Item::Republish { message, waited });
        }
        if letter.source == Source::Timer {
            return self.timer(row, waited, reading);
        }
        let owner = reading.partition;
        let seed = replay::seed(letter.id, &letter.message, owner, reading.topic_id);
        let made = cause::of_message_in(
            &owner.topic,
            &message,
            reading.routes,
            seed,
            reading.descriptor,
            reading.trace,
        );
        Ok(match made {
            Ok(cause) => Item::Cause(Box::new(Cause {
                waited: Some(waited),
                ..cause
            })),
            Err(why) => Item::Undecodable {
                message,
                why,
                waited: Some(waited),
            },
        })
    }

    /// Its replay waits, and a person gave that up.
    pub(super) fn given_up(&self, row: &Wakeup, by: &str, reading: &Reading<'_>) -> Item {
        let (letter, topic_id) = (&self.letter, reading.topic_id);
        let seed = replay::seed(letter.id, &letter.message, reading.partition, topic_id);
        let stored = Stored::Message(Message::clone(&self.message));
        let replay = Some(self.replay(row));
        item::given_up(stored, seed, row, by, letter.holds, replay)
    }

    fn replay(&self, row: &Wakeup) -> Replay {
        let letter = &self.letter;
        Replay {
            letter: letter.id,
            number: letter.replays.saturating_add(1),
            failed_at: letter.failed_at,
            source: letter.source,
            is_waiting: row.kind == WakeupKind::Deferred,
            holds: letter.holds,
            was_missing: letter.code == TASK_MISSING,
        }
    }

    fn timer(&self, row: &Wakeup, waited: Waited, reading: &Reading<'_>) -> Result<Item, String> {
        let topic = &*reading.partition.topic;
        let named = |route: &Route| route.name == row.route && route.topic == topic;
        let route = reading.routes.iter().position(named);
        let route =
            route.ok_or_else(|| format!("the route {} of a timer is not configured", row.route))?;
        let (task, letter) = (row.task_id.clone(), self.letter.id);
        let cause = replay::timer_cause(&self.message, task, route, waited, letter, reading.trace);
        let cause = cause
            .ok_or_else(|| format!("the dead letter {letter} has no timer's form any more"))?;
        Ok(Item::Cause(Box::new(cause)))
    }
}
