//! What a batch does with dead letters that are decided again: each ends in its own row, and is counted where it ended.

use std::sync::Arc;

use super::{Decider, Fold, Wakeup};
use crate::cause::{Cause, Waited};
use crate::dead_letter::DeadLetter;
use crate::outcome::Outcome;
use crate::record::{Message, Record, set_header};
use crate::replay::{End, Replayed};
use crate::task::derived_id;
use crate::timestamp;

impl Fold {
    /// Sends a dead letter to its topic again, as a person asked, without deciding it. It stays counted as a dead letter:
    /// what comes of it is a record of its own.
    pub fn republish(&mut self, message: &Arc<Message>, waited: &Waited) {
        let Some(replay) = &waited.replay else {
            return;
        };
        self.out.done.push(waited.wakeup);
        // Its dead letter holds the task no longer.
        self.settle_row(Some(waited));
        let mut record = Record {
            topic: message.position.topic.to_string(),
            key: message.key.clone(),
            value: message.value.clone(),
            headers: message.headers.clone(),
            timestamp: timestamp::is_valid(message.timestamp).then_some(message.timestamp),
        };
        set_header(
            &mut record.headers,
            "taskhost-dlq-id",
            replay.letter.to_string(),
        );
        self.out.records.push(record);
        self.out.replayed.push(Replayed {
            letter: replay.letter,
            end: End::Republished,
        });
    }

    /// A replay has to wait: from now on it is a message that waits like any other, at its record's place.
    pub(super) fn replay_waits(
        &mut self,
        cause: &Cause,
        decider: &Decider,
        wakeup: Wakeup,
    ) -> Outcome {
        let Some((waited, replay)) = cause
            .waited
            .as_ref()
            .and_then(|waited| Some((waited, waited.replay.as_ref()?)))
        else {
            return Outcome::Deferred;
        };
        let name = format!("replay:{}", replay.number);
        let wakeup = Wakeup {
            id: derived_id(replay.letter, &name),
            ..wakeup
        };
        self.out.done.push(waited.wakeup);
        self.out.replayed.push(Replayed {
            letter: replay.letter,
            end: End::Waiting { wakeup: wakeup.id },
        });
        self.out.waiting.push(wakeup);
        self.count(&decider.route, Outcome::Deferred, Some(waited))
    }

    /// A replay was applied or ignored; one that failed said so itself.
    pub(super) fn replay_ends(&mut self, waited: &Waited, outcome: Outcome) {
        let end = match outcome {
            Outcome::Applied => End::Applied,
            Outcome::Ignored => End::Ignored,
            Outcome::Deferred | Outcome::DeadLetter => return,
        };
        if let Some(replay) = &waited.replay {
            let letter = replay.letter;
            self.out.replayed.push(Replayed { letter, end });
        }
    }

    /// A replay failed: the dead letter stays, with what is wrong now.
    pub(super) fn replay_fails(&mut self, letter: DeadLetter) {
        let parked = i64::from(letter.replays) >= i64::from(self.settings.replays_max);
        self.out.replayed.push(Replayed {
            letter: letter.id,
            end: End::Failed {
                letter: Box::new(letter),
                parked,
            },
        });
    }
}

#[cfg(test)]
mod tests;
