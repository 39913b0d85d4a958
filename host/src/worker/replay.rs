//! Dead letters that are decided again: taken like wakeups, and made causes under the plugins that are current now.

use std::collections::HashMap;

use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::cause::{self, Cause, Route, Waited};
use taskhost_core::dead_letter::Source;
use taskhost_core::record::{Offset, TopicPartition};
use taskhost_core::replay::{self, Replay};
use taskhost_core::waiting::Why;
use uuid::Uuid;

use super::causes::Item;
use super::plugins::Plugins;
use super::tracing_context as trace;
use super::{Failure, Worker, now};
use crate::store::StoredDeadLetter;

/// Replays that are taken at a time.
const REPLAYS_MAX: u32 = 500;

/// The dead letters that wakeups of a batch stand for.
#[derive(Debug)]
pub(super) struct Letters {
    by_wakeup: HashMap<Uuid, StoredDeadLetter>,
    owner: TopicPartition,
    /// The last record that was decided before them.
    behind: Offset,
}

/// A dead letter as a batch takes it.
#[derive(Debug)]
pub(super) struct Letter<'a> {
    stored: &'a StoredDeadLetter,
    all: &'a Letters,
}

impl Letters {
    /// The one that a wakeup stands for.
    pub(super) fn of(&self, wakeup: &Wakeup) -> Option<Letter<'_>> {
        let stored = self.by_wakeup.get(&wakeup.id)?;
        Some(Letter { stored, all: self })
    }
}

impl Letter<'_> {
    /// What the batch is about; or why this host can't decide it: then it waits.
    pub(super) fn item(
        &self,
        wakeup: &Wakeup,
        routes: &[Route],
        topic_id: Uuid,
        plugins: &Plugins,
    ) -> Result<Item, String> {
        let (letter, message) = (&self.stored.letter, self.stored.message());
        let waited = Waited {
            wakeup: wakeup.id,
            attempt: wakeup.attempt,
            tries: wakeup.tries,
            since_worked: wakeup.since_worked,
            was_held: wakeup.why == Why::Held,
            replay: Some(Replay {
                letter: letter.id,
                number: letter.replays.saturating_add(1),
                failed_at: letter.failed_at,
                source: letter.source,
                is_waiting: wakeup.kind == WakeupKind::Deferred,
                behind: self.all.behind,
            }),
        };
        if self.stored.republish || letter.source == Source::Outgoing {
            return Ok(Item::Republish { message, waited });
        }
        if letter.source == Source::Timer {
            return self.timer(wakeup, waited, routes);
        }
        let seed = replay::seed(letter.id, &letter.message, &self.all.owner, topic_id);
        let descriptor = |route| plugins.decider(route).descriptor.clone();
        let made = cause::of_message_in(
            &self.all.owner.topic,
            &message,
            routes,
            seed,
            descriptor,
            trace::of_hint,
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

    fn timer(&self, wakeup: &Wakeup, waited: Waited, routes: &[Route]) -> Result<Item, String> {
        let topic = &*self.all.owner.topic;
        let named = |route: &Route| route.name == wakeup.route && route.topic == topic;
        let route = routes
            .iter()
            .position(named)
            .ok_or_else(|| format!("the route {} of a timer is not configured", wakeup.route))?;
        let message = self.stored.message();
        let (task, letter) = (wakeup.task_id.clone(), self.stored.letter.id);
        let cause = replay::timer_cause(&message, task, route, waited, letter, trace::of_hint);
        let cause = cause
            .ok_or_else(|| format!("the dead letter {letter} has no timer's form any more"))?;
        Ok(Item::Cause(Box::new(cause)))
    }
}

impl Worker {
    /// Decides dead letters that are to be decided again, and says whether any of them could be; none if there are none.
    pub(super) async fn replays(&mut self) -> Result<Option<bool>, Failure> {
        let bytes_max = u64::try_from(self.shared.rules.bytes_max).unwrap_or(u64::MAX);
        let due = self
            .shared
            .store
            .due_replays(&self.key, now(), REPLAYS_MAX, bytes_max)
            .await?;
        if due.is_empty() {
            return Ok(None);
        }
        let wakeups: Vec<Wakeup> = due.iter().map(|replay| replay.wakeup.clone()).collect();
        let letters = due
            .into_iter()
            .map(|replay| (replay.wakeup.id, replay.letter));
        let letters = self.letters(letters.collect());
        let decided = self.decide_wakeups(&wakeups, &letters).await?;
        if wakeups.iter().any(|wakeup| wakeup.why == Why::Stranded) {
            self.count_stranded().await?;
        }
        Ok(Some(decided))
    }

    /// The next dead letter to be decided again, if there is one.
    pub(super) async fn first_replay(&mut self) -> Result<Option<Wakeup>, Failure> {
        let store = &self.shared.store;
        let due = store.due_replays(&self.key, now(), 1, 1).await?;
        Ok(due.into_iter().next().map(|replay| replay.wakeup))
    }

    /// The dead letters among what is due: their replays were deferred.
    pub(super) async fn letters_of(&mut self, due: &[Wakeup]) -> Result<Letters, Failure> {
        let deferred: Vec<Uuid> = due
            .iter()
            .filter(|wakeup| wakeup.kind == WakeupKind::Deferred)
            .map(|wakeup| wakeup.id)
            .collect();
        let by_wakeup = match deferred.is_empty() {
            true => HashMap::new(),
            false => {
                let store = &self.shared.store;
                store.replays_of(&self.key.group, &deferred).await?
            }
        };
        Ok(self.letters(by_wakeup))
    }

    fn letters(&self, by_wakeup: HashMap<Uuid, StoredDeadLetter>) -> Letters {
        Letters {
            by_wakeup,
            owner: self.partition.clone(),
            behind: self.next_offset - 1,
        }
    }
}
