//! The working state: gathers batches, advances past the end of the log, and waits for what comes.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::halt::Halt;
use taskhost_core::partition::{Action, Event};
use uuid::Uuid;

use super::recover::unpublished;
use super::rounds::From;
use super::{Failure, Worker};
use crate::clock::now;
use crate::log::{Answer, Fed, Unpublished};

/// How often a worker looks after its rows: wakeups that another host made due, frames to be trimmed.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// How much working time goes by until it is written down without a batch that does. A host that dies forgets so much of
/// it, in favour of what waits.
const WORKED_EVERY_MS: i64 = 10_000;

impl Worker {
    /// Works until something happens that core must know.
    pub(super) async fn work(&mut self) -> Result<Event, Failure> {
        let mut looked = tokio::time::Instant::now();
        self.claimed.waiting.worked.stop();
        self.count_stranded().await?;
        self.claimed.waiting.next_due = self.shared.ledger.next_due(&self.key).await?;
        loop {
            if self.signals.draining.is_cancelled() {
                return Ok(Event::Drain);
            }
            if !self.may_go_on().await {
                return Ok(Event::Drain);
            }
            self.claimed.waiting.worked.tick(self.began.elapsed());
            while let Some(Some((batch, answer))) = self.claimed.publishing.next().now_or_never() {
                self.answered(batch, answer)?;
            }
            if looked.elapsed() >= TICK {
                looked = tokio::time::Instant::now();
                self.look_after().await?;
            }
            let may_decide = self.claimed.publishing.len() < self.shared.rules.unpublished_max;
            if may_decide && self.decide_something().await? {
                continue;
            }
            let tick = (looked + TICK).min(match self.claimed.routes.shut {
                Some(shut) if may_decide => shut.until.map_or(looked + TICK, Into::into),
                Some(_) => looked + TICK,
                None if may_decide => self.due_instant(),
                None => looked + TICK,
            });
            let poked = self.signals.poked.clone();
            tokio::select! {
                biased;
                () = self.signals.draining.cancelled() => {}
                () = self.signals.open.changed() => {}
                () = self.signals.routes_changed.changed() => {}
                Some((batch, answer)) = self.claimed.publishing.next(), if !self.claimed.publishing.is_empty() => {
                    self.answered(batch, answer)?;
                }
                fed = self.feed.next(), if may_decide && self.claimed.fetched.pending.is_empty() => match fed {
                    Some(fed) => self.absorb(fed)?,
                    None => return Ok(Event::Drain),
                },
                () = poked.notified() => self.claimed.waiting.next_due = Some(now()),
                () = tokio::time::sleep_until(tick) => {}
            }
        }
    }

    /// Waits while a dependency is away; false if the partition is to be given back meanwhile.
    pub(super) async fn may_go_on(&mut self) -> bool {
        let draining = self.signals.draining.clone();
        let waited = tokio::select! {
            biased;
            () = draining.cancelled() => return false,
            waited = self.await_dependencies() => waited,
        };
        if waited {
            self.claimed.waiting.worked.stop();
            self.show(&Action::Work);
        }
        true
    }

    /// One batch, if there is something to decide. Wakeups that are due and records take turns, so that neither waits
    /// for many slow ones of the other.
    async fn decide_something(&mut self) -> Result<bool, Failure> {
        // A bell that rang while there was work, too.
        if self.signals.poked.notified().now_or_never().is_some() {
            self.claimed.waiting.next_due = Some(now());
        }
        if !self.may_decide() {
            return Box::pin(self.probe()).await;
        }
        self.gather()?;
        if self.claimed.fetched.pending.is_empty() && !self.is_due() {
            return self.go_past_the_end().await;
        }
        let (shared, draining) = (self.shared.clone(), self.signals.draining.clone());
        let place = tokio::select! {
            biased;
            () = draining.cancelled() => return Ok(true),
            place = shared.gate.place() => place,
        };
        // Meanwhile a breaker may have opened, or a plugin been replaced.
        if !self.may_decide() {
            return Ok(true);
        }
        // What came while it waited goes along.
        self.gather()?;
        place.during(Box::pin(self.decide_gathered())).await
    }

    /// A batch of wakeups or of the records that are here.
    async fn decide_gathered(&mut self) -> Result<bool, Failure> {
        let their_turn = self.is_due()
            && (!self.claimed.rows_had_turn || self.claimed.fetched.pending.is_empty());
        // They had it also if they fail: records go on then.
        self.claimed.rows_had_turn = their_turn;
        if their_turn && self.work_off_rows().await? {
            return Ok(true);
        }
        if self.claimed.fetched.pending.is_empty() {
            return self.go_past_the_end().await;
        }
        self.claimed.rows_had_turn = false;
        self.round(&From::Records).await?;
        Ok(true)
    }

    fn is_due(&self) -> bool {
        self.claimed
            .waiting
            .next_due
            .is_some_and(|due| due <= now())
    }

    /// Moves past what is no record at the end of the log, if there is nothing else.
    async fn go_past_the_end(&mut self) -> Result<bool, Failure> {
        match self.claimed.fetched.end.take() {
            Some(end) if end > self.claimed.reached.next_offset => {
                self.advance(end).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Takes what is here, up to the bounds of a batch. No waiting: few messages make small batches and
    /// many make large ones. An end of the log that was seen in between is none any more: somebody who keeps up
    /// sees one behind each few messages, and once they queue up they still belong together.
    pub(super) fn gather(&mut self) -> Result<(), Failure> {
        let rules = &self.shared.rules;
        let (messages_max, bytes_max) = (rules.messages_max, rules.bytes_max);
        let mut bytes: usize = self
            .claimed
            .fetched
            .pending
            .iter()
            .map(|message| message.size())
            .sum();
        while self.claimed.fetched.pending.len() < messages_max && bytes < bytes_max {
            let Some(fed) = self.feed.try_next() else {
                break;
            };
            if let Fed::Message(message) = &fed {
                bytes += message.size();
            }
            self.absorb(fed)?;
        }
        Ok(())
    }

    fn absorb(&mut self, fed: Fed) -> Result<(), Failure> {
        match fed {
            Fed::Message(message)
                if message.position.offset >= self.claimed.reached.next_offset =>
            {
                self.claimed.fetched.end = None;
                self.claimed.fetched.pending.push_back(Arc::new(message));
            }
            Fed::Message(_) => {}
            Fed::End { offset } => self.claimed.fetched.end = Some(offset),
            Fed::OutOfRange { reason, .. } => {
                tracing::warn!(reason, "the log does not have the next record");
                let log = self
                    .claimed
                    .inspected
                    .as_ref()
                    .map_or((0, 0), |(log, _)| (log.low, log.high));
                let halt = Halt::OutsideLog {
                    offset: self.claimed.reached.next_offset,
                    low: log.0,
                    high: log.1,
                };
                return Err(Failure::Halt(halt));
            }
            Fed::Error(error) => tracing::warn!(%error, "fetching meets trouble and goes on"),
        }
        Ok(())
    }

    fn due_instant(&self) -> tokio::time::Instant {
        let wait = self.claimed.waiting.next_due.map_or(TICK, |due| {
            Duration::from_millis(u64::try_from(due.saturating_sub(now())).unwrap_or(0))
        });
        tokio::time::Instant::now() + wait.min(TICK)
    }

    /// Housekeeping between batches: raises the lower bound, trims what is published, looks for wakeups.
    async fn look_after(&mut self) -> Result<(), Failure> {
        if self.claimed.reached.published > self.claimed.reached.marked {
            self.shared
                .ledger
                .set_published(&self.key, self.claimed.reached.published)
                .await?;
            self.shared
                .ledger
                .trim(&self.key, self.claimed.reached.published)
                .await?;
            self.claimed.reached.marked = self.claimed.reached.published;
        }
        let (own, ledger) = (&self.shared.rules.transactional_ids, &self.shared.ledger);
        let worked = self.claimed.waiting.worked.millis();
        if self.claimed.waiting.count > 0
            && worked - self.claimed.waiting.worked_stored >= WORKED_EVERY_MS
        {
            ledger
                .set_worked(&self.key, self.claimed.epoch, worked)
                .await?;
            self.claimed.waiting.worked_stored = worked;
        }
        self.claimed.waiting.next_due = ledger
            .next_due_of_own(&self.key, self.claimed.epoch, own)
            .await?;
        let (topic, partition) = (&*self.partition.topic, self.partition.partition);
        let waiting = u64::try_from(self.claimed.waiting.count).unwrap_or(0);
        self.shared
            .metrics
            .set_deferred_pending(topic, partition, waiting);
        let frames =
            u64::try_from(self.claimed.reached.batch - self.claimed.reached.published).unwrap_or(0);
        self.shared
            .metrics
            .set_outbox_frames(topic, partition, frames);
        Ok(())
    }

    /// Hands a committed batch's frame to the publisher.
    pub(super) fn publish(&mut self, frame: Frame, token: Option<Uuid>) {
        let batch = frame.batch;
        let answer =
            self.shared
                .publisher
                .publish(&self.partition, self.tag, Arc::new(frame), token);
        let answer = async move { (batch, answer.await.unwrap_or(Err(Unpublished::Stopped))) };
        self.claimed.publishing.push_back(answer.boxed());
    }

    fn answered(&mut self, batch: BatchNumber, answer: Answer) -> Result<(), Failure> {
        answer.map_err(unpublished)?;
        self.claimed.reached.published = batch;
        Ok(())
    }
}
