//! One batch through its Postgres transaction: lock, decide, check the activations, write, advance, commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use taskhost_core::batch::{Wakeup, WriteSet};
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::frame::Frame;
use taskhost_core::halt::Halt;
use taskhost_core::record::{Offset, Record};
use taskhost_core::waiting::Why;
use uuid::Uuid;

use super::causes::{self, Items};
use super::decide::{self, Ground, Round};
use super::plugins::Plugins;
use super::purity::Evidence;
use super::replay::Letters;
use super::{Dependency, Failure, Worker, now};
use crate::breaker::{Extent, Name};
use crate::failpoint;
use crate::mutant::{self, Mutant};
use crate::plugin::Failure as DecideError;
use crate::store::{self, Commit, Disposition};

/// How a try to commit a batch ended.
pub(super) enum Tried {
    /// It is committed.
    Committed(Box<Round>),
    /// Somebody was first at a task or a route: the same again, at once.
    Again,
    /// Postgres refused what is in the batch.
    Refused(String),
    /// The breaker of a route is open, now or since before: nothing of it is committed.
    Shut,
    /// The plugin faults at the message of a breaker's probe: nothing of it is committed.
    ProbeFailed(Fault),
    /// Nothing of it was left to do.
    Nothing,
}

impl Worker {
    /// Decides and commits pending records: all of them, or fewer where a batch has to be cut.
    pub(super) async fn messages(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let plugins = self.plugins()?;
            let alone = self.singly > 0 || self.probing.is_some();
            let count = if alone { 1 } else { self.pending.len() };
            let records = self.pending.iter().take(count);
            let items =
                causes::of_messages(records, &self.shared.routes, self.topic_id(), &plugins);
            let items = Arc::new(items);
            let whole = !alone && !self.one_by_one;
            match self.attempt(&items, &plugins, whole, None).await? {
                Tried::Committed(round) => {
                    self.committed(&round.set, began);
                    self.covered(round.covered);
                    return Ok(());
                }
                Tried::Again | Tried::Nothing => {}
                Tried::Refused(_) if !alone => self.singly = items.list.len(),
                Tried::Refused(reason) => {
                    let covered = self.blame(&items, &plugins, reason, began).await?;
                    self.covered(covered);
                    return Ok(());
                }
                Tried::Shut => return Ok(()),
                Tried::ProbeFailed(fault) => return self.failed_at_record(&fault, &plugins).await,
            }
            if self.draining.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Records that are decided and committed are pending no more.
    fn covered(&mut self, count: usize) {
        self.pending.drain(..count);
        self.singly = self.singly.saturating_sub(count);
    }

    /// Postgres refuses this one item's write set, also when it is alone: a dead letter. How many items are
    /// committed now: none if somebody was first at a task or a route, and it has to be decided again.
    async fn blame(
        &mut self,
        items: &Arc<Items>,
        plugins: &Plugins,
        reason: String,
        began: Instant,
    ) -> Result<usize, Failure> {
        let refusal = Fault::new(Kind::RefusedByDatabase, reason);
        match self.attempt(items, plugins, false, Some(&refusal)).await? {
            Tried::Committed(round) => {
                self.committed(&round.set, began);
                Ok(round.covered)
            }
            Tried::Refused(reason) => {
                let reason = format!("not even the dead letter is taken: {reason}");
                Err(Failure::Halt(Halt::Refused { reason }))
            }
            _ => Ok(0),
        }
    }

    /// Decides and commits wakeups that are due, or puts them off that can't be decided here; false if none of them counts
    /// any more.
    pub(super) async fn decide_wakeups(
        &mut self,
        due: &[Wakeup],
        letters: &Letters,
    ) -> Result<bool, Failure> {
        let began = Instant::now();
        let mut alone = self.probing.is_some();
        // What was too slow alone would be too slow in a batch, and that would cost everybody twice the deadline.
        let was_slow = due.iter().any(|wakeup| wakeup.why == Why::Deadline);
        loop {
            let plugins = self.plugins()?;
            let count = if alone { 1 } else { due.len() };
            let topic_id = self.topic_id();
            let (items, stranded) = causes::of_wakeups(
                &due[..count],
                &self.shared.routes,
                topic_id,
                &plugins,
                letters,
            );
            let items = Arc::new(items);
            let put_off = self.strand(&stranded).await?;
            if items.list.is_empty() {
                return Ok(put_off > 0);
            }
            let whole = !alone && !self.one_by_one && !was_slow;
            match self.attempt(&items, &plugins, whole, None).await? {
                Tried::Committed(round) => {
                    self.committed(&round.set, began);
                    return Ok(true);
                }
                Tried::Nothing | Tried::Shut => return Ok(false),
                Tried::ProbeFailed(fault) => {
                    self.failed_at_wakeup(&fault, due, letters, &plugins)
                        .await?;
                    return Ok(false);
                }
                Tried::Again => {}
                Tried::Refused(_) if !alone => alone = true,
                Tried::Refused(reason) => {
                    return Ok(self.blame(&items, &plugins, reason, began).await? > 0);
                }
            }
            if self.draining.is_cancelled() {
                return Ok(false);
            }
        }
    }

    /// A batch with no causes: moves past commit markers, so that lag is 0 and retention never overtakes an
    /// idle partition.
    pub(super) async fn advance(&mut self, end: Offset) -> Result<(), Failure> {
        let began = Instant::now();
        let batch = self.shared.store.begin(&self.key, self.epoch).await?;
        self.check_place(batch.number(), batch.next_offset())?;
        self.store_batch(batch, Vec::new(), end).await?;
        self.committed(&WriteSet::default(), began);
        Ok(())
    }

    /// What is current for the partition's routes.
    pub(super) fn plugins(&self) -> Result<Plugins, Failure> {
        let Self {
            shared, partition, ..
        } = self;
        Plugins::current(
            &shared.catalog,
            &shared.routes,
            &partition.topic,
            &shared.topics,
        )
        .ok_or_else(|| Failure::Trouble {
            dependency: Dependency::Plugins,
            reason: "a route of this topic has no plugin".to_owned(),
            extent: Extent::Own,
        })
    }

    pub(super) fn topic_id(&self) -> Uuid {
        self.log.map_or(Uuid::nil(), |log| log.topic_id)
    }

    /// One try in one transaction. A `refusal` makes the only item a dead letter, undecided.
    async fn attempt(
        &mut self,
        items: &Arc<Items>,
        plugins: &Plugins,
        whole: bool,
        refusal: Option<&Fault>,
    ) -> Result<Tried, Failure> {
        failpoint::hit("before-batch");
        let mut batch = self.shared.store.begin(&self.key, self.epoch).await?;
        self.check_place(batch.number(), batch.next_offset())?;
        let (now, ids, wakeups) = (now(), items.tasks(), items.wakeups());
        let tasks = batch.lock_tasks(&ids).await?;
        let still_due: HashSet<Uuid> = match wakeups.is_empty() {
            true => HashSet::new(),
            false => batch
                .lock_wakeups(&wakeups, now)
                .await?
                .iter()
                .map(|wakeup| wakeup.id)
                .collect(),
        };
        if still_due.len() != wakeups.len() {
            // Cancelled, replaced or postponed since it was read: read again.
            batch.rollback().await;
            return Ok(Tried::Nothing);
        }
        let blocked = match (wakeups.is_empty() || items.are_replays()) && self.waiting > 0 {
            true => batch.blocked(&ids).await?,
            false => HashSet::new(),
        };
        let Some(settings) = self.settings.clone() else {
            return Err(Failure::Uncertain(
                "the partition was not inspected".to_owned(),
            ));
        };
        let sampled = match whole {
            true => self.shared.purity.choose(items),
            false => None,
        };
        let ground = Ground {
            settings,
            now,
            tasks,
            blocked,
            worked: self.worked.millis(),
            breakers: self.shared.routes_breakers.clone(),
            probing: self.probing.is_some(),
            piece: self.piece,
            keep: sampled.is_some(),
        };
        let began = Instant::now();
        let decided = match refusal {
            Some(fault) => Ok(decide::refused(items, &ground, plugins, fault)),
            None => tokio::task::block_in_place(|| decide::decide(items, &ground, plugins, whole)),
        };
        let round = match decided {
            Ok(round) => round,
            Err(DecideError::Fault(_)) => {
                batch.rollback().await;
                self.one_by_one = true;
                return Ok(Tried::Again);
            }
            Err(other) => {
                batch.rollback().await;
                return Err(Failure::Trouble {
                    dependency: Dependency::Plugins,
                    reason: other.to_string(),
                    extent: Extent::Own,
                });
            }
        };
        self.shared.metrics.decided(
            u32::try_from(round.covered).unwrap_or(u32::MAX),
            began.elapsed(),
        );
        if round.covered == 0 {
            batch.rollback().await;
            return Ok(Tried::Nothing);
        }
        let waiting_for = round.waiting_for(&ground);
        let mut tried = self.finish(batch, items, plugins, round, now).await?;
        if let Tried::Committed(round) = &mut tried {
            self.shared.waker.deferred(waiting_for);
            if let Some(turn) = sampled {
                let evidence = Evidence {
                    items: items.clone(),
                    ground,
                    plugins: plugins.clone(),
                    decisions: std::mem::take(&mut round.decisions),
                };
                self.shared.purity.look_at(turn, evidence);
            }
        }
        Ok(tried)
    }

    /// Writes and commits what was decided.
    async fn finish(
        &mut self,
        mut batch: store::Batch,
        items: &Items,
        plugins: &Plugins,
        mut round: Round,
        now: i64,
    ) -> Result<Tried, Failure> {
        let routes = items.routes();
        let number = |route: usize| plugins.activation(route).unwrap_or(0);
        let name = |route: usize| self.shared.routes[route].name.as_str();
        let under: Vec<(&str, i64)> = routes
            .iter()
            .map(|route| (name(*route), number(*route)))
            .collect();
        if !batch.check_activations(&under).await? {
            batch.rollback().await;
            for route in routes {
                if let Err(error) = self.shared.catalog.refresh(route).await {
                    return Err(Failure::Trouble {
                        dependency: Dependency::Plugins,
                        reason: error.to_string(),
                        extent: Extent::Own,
                    });
                }
            }
            return Ok(Tried::Again);
        }
        let counted = match self.judge(&round, plugins) {
            Ok(counted) => counted,
            Err(not) => {
                batch.rollback().await;
                return Ok(not);
            }
        };
        let written = self.write(batch, items, plugins, &mut round, now).await;
        match &written {
            Ok(None) => {
                self.probed(&round);
                self.after(&round);
                Ok(Tried::Committed(Box::new(round)))
            }
            _ => {
                self.withdraw(counted);
                written.map(|tried| tried.unwrap_or(Tried::Again))
            }
        }
    }

    /// Writes and commits what may be; what became of it otherwise.
    async fn write(
        &mut self,
        mut batch: store::Batch,
        items: &Items,
        plugins: &Plugins,
        round: &mut Round,
        now: i64,
    ) -> Result<Option<Tried>, Failure> {
        if let Err(error) = batch.write(&round.set, now).await {
            return match error.disposition() {
                Disposition::Raced => Ok(Some(Tried::Again)),
                Disposition::Message => Ok(Some(Tried::Refused(error.to_string()))),
                _ => Err(error.into()),
            };
        }
        let starts = self.starts(items, plugins, round.covered);
        batch.start_activations(&starts).await?;
        let next_offset = self.next_after(round.covered, items);
        let records = std::mem::take(&mut round.set.records);
        match self.store_batch(batch, records, next_offset).await {
            Ok(()) => {}
            Err(Stored::Refused(reason)) => return Ok(Some(Tried::Refused(reason))),
            Err(Stored::Failed(failure)) => return Err(failure),
        }
        let began = starts.into_iter().map(|start| (start.route, start.number));
        self.started.extend(began);
        Ok(None)
    }

    /// The next record to decide once the first `covered` items are committed. Wakeups don't move it.
    fn next_after(&self, covered: usize, items: &Items) -> Offset {
        if items.list.iter().any(|item| item.waited().is_some()) {
            return self.next_offset;
        }
        let last = covered
            .checked_sub(1)
            .and_then(|last| self.pending.get(last));
        let after = last.map_or(self.next_offset, |message| message.position.offset + 1);
        match self.end {
            Some(end) if covered == self.pending.len() => end.max(after),
            _ => after,
        }
    }

    /// Advances progress and commits; then the frame is on its way.
    async fn store_batch(
        &mut self,
        batch: store::Batch,
        records: Vec<Record>,
        next_offset: Offset,
    ) -> Result<(), Stored> {
        let began = Instant::now();
        let token = match mutant::is_armed(Mutant::Token) {
            true => Uuid::from_u64_pair(0, batch.number().unsigned_abs()),
            false => Uuid::new_v4(),
        };
        let frame = Frame {
            batch: batch.number(),
            next_offset,
            records,
        };
        let known = Some(self.published);
        let batch = batch.having_worked(self.worked.millis());
        let frame = match batch.commit(self.next_offset, frame, token, known).await {
            Ok(Commit::Committed(frame)) => frame,
            Ok(Commit::Unknown { frame, error }) => {
                tracing::warn!(%error, "the answer to COMMIT was lost; asking for the outcome");
                match self.settled(token).await? {
                    true => frame,
                    false => {
                        let reason = "a batch was not committed after all".to_owned();
                        return Err(Stored::Failed(Failure::Uncertain(reason)));
                    }
                }
            }
            Err(error) if error.disposition() == Disposition::Message => {
                return Err(Stored::Refused(error.to_string()));
            }
            Err(error) => return Err(Stored::Failed(error.into())),
        };
        self.shared.metrics.committed(began.elapsed());
        self.batch = frame.batch;
        self.next_offset = frame.next_offset;
        self.publish(frame);
        Ok(())
    }

    /// Asks for a batch's outcome until there is an answer: nobody else can know it.
    async fn settled(&mut self, token: Uuid) -> Result<bool, Stored> {
        let mut attempt = 0;
        loop {
            match self.shared.store.settle(&self.key, token).await {
                Ok(committed) => return Ok(committed),
                Err(error)
                    if error.disposition() == Disposition::Trouble
                        && !self.draining.is_cancelled() =>
                {
                    tracing::warn!(%error, "the outcome of a batch is not known yet");
                    let (eras, extent) = (self.eras, error.extent());
                    let breakers = &self.shared.breakers;
                    breakers.failed(Name::Postgres, eras, extent, &error.to_string());
                    self.back_off(attempt).await;
                    self.may_go_on().await;
                    attempt += 1;
                }
                Err(error) => return Err(Stored::Failed(error.into())),
            }
        }
    }

    /// Progress must be where this worker left it; if not, somebody else was here.
    fn check_place(&self, number: i64, next_offset: Offset) -> Result<(), Failure> {
        let unmoved = number == self.batch + 1 && next_offset == self.next_offset;
        match unmoved || mutant::is_armed(Mutant::Epoch) {
            true => Ok(()),
            false => Err(Failure::Uncertain(format!(
                "progress is at batch {} and offset {next_offset}, not at {} and {}",
                number - 1,
                self.batch,
                self.next_offset
            ))),
        }
    }
}

/// Why a batch was not stored.
enum Stored {
    /// Postgres refused what is in it.
    Refused(String),
    /// Anything else.
    Failed(Failure),
}

impl From<Stored> for Failure {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Failed(failure) => failure,
            Stored::Refused(reason) => Self::Halt(Halt::Refused { reason }),
        }
    }
}
