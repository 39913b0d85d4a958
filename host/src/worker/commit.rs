//! One round through its Postgres transaction: read, decide, check the activations, write, advance, commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use taskhost_core::fault::Fault;
use taskhost_core::frame::Frame;
use taskhost_core::halt::Halt;
use taskhost_core::record::{Offset, Record};
use taskhost_core::round::{self, Ground, Items, Round, Rung, Unanswered};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::Ahead;
use uuid::Uuid;

use super::plugins::Plugins;
use super::purity::Evidence;
use super::{Dependency, Failure, Worker, now};
use crate::breaker::{Extent, Name};
use crate::failpoint;
use crate::mutant::{self, Mutant};
use crate::store::{Batch, Commit, Disposition};

/// How a try to commit a round ended.
pub(super) enum Tried {
    /// It is committed.
    Committed(Box<Round>),
    /// Somebody was first at a task or a route: the same again, at once.
    Again,
    /// Several causes exceeded their deadline in one call; nothing of them is decided.
    Exceeded,
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
    /// One try in one transaction.
    pub(super) async fn attempt(
        &mut self,
        items: &Arc<Items>,
        plugins: &Plugins,
        rung: &Rung,
    ) -> Result<Tried, Failure> {
        failpoint::hit("before-batch");
        let mut batch = self
            .shared
            .store
            .begin(&self.key, self.claimed.epoch)
            .await?;
        self.check_place(batch.number(), batch.next_offset())?;
        let Some(ground) = self.ground(&mut batch, items).await? else {
            // Cancelled or replaced since it was read: read again.
            batch.rollback().await;
            return Ok(Tried::Nothing);
        };
        let sampled = match rung {
            Rung::Together { .. } => self.shared.purity.choose(items),
            _ => None,
        };
        let ground = Ground {
            keep: sampled.is_some(),
            ..ground
        };
        let began = Instant::now();
        let asking = plugins.asking(&self.partition);
        let decided = tokio::task::block_in_place(|| round::decide(items, &ground, rung, &asking));
        let round = match decided {
            Ok(round) => round,
            Err(unanswered) => {
                batch.rollback().await;
                return match unanswered {
                    Unanswered::Fault(_) => Ok(Tried::Exceeded),
                    machine @ Unanswered::Machine { .. } => Err(plugins_failed(&machine)),
                };
            }
        };
        self.shared.metrics.decided(
            u32::try_from(round.covered).unwrap_or(u32::MAX),
            began.elapsed(),
        );
        if round.covered == 0 && !items.list.is_empty() {
            batch.rollback().await;
            return Ok(Tried::Nothing);
        }
        let waiting_for = round.waiting_for(&ground);
        let mut tried = self
            .finish(batch, items, plugins, round, ground.now)
            .await?;
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

    /// What the items are decided on; none if one of their rows is gone.
    pub(super) async fn ground(
        &mut self,
        batch: &mut Batch,
        items: &Items,
    ) -> Result<Option<Ground>, Failure> {
        let (ids, rows) = (items.tasks(), items.rows());
        let tasks = batch.lock_tasks(&ids).await?;
        if !rows.is_empty() && batch.lock_wakeups(&rows).await? != rows.len() {
            return Ok(None);
        }
        let ahead = self.ahead(batch, items, &ids, &rows).await?;
        let Some((_, settings)) = &self.claimed.inspected else {
            let reason = "the partition was not inspected".to_owned();
            return Err(Failure::Uncertain(reason));
        };
        let breakers = &self.shared.routes_breakers;
        let snapshots = items.routes().into_iter();
        Ok(Some(Ground {
            settings: settings.clone(),
            now: now(),
            worked: self.claimed.waiting.worked.millis(),
            ahead,
            tasks,
            breakers: snapshots
                .filter_map(|route| Some((route, breakers.snapshot(route)?)))
                .collect(),
            is_probe: self.claimed.routes.probing.is_some(),
            keep: false,
        }))
    }

    /// What waits of the tasks besides the items. It isn't asked for where nothing waits.
    async fn ahead(
        &mut self,
        batch: &mut Batch,
        items: &Items,
        ids: &[TaskId],
        rows: &[Uuid],
    ) -> Result<HashMap<TaskId, Ahead>, Failure> {
        let waiting = &self.claimed.waiting;
        if waiting.count == 0 && !waiting.holding {
            return Ok(HashMap::new());
        }
        Ok(batch.ahead(ids, rows, &items.letters()).await?)
    }

    /// Writes and commits what was decided.
    async fn finish(
        &mut self,
        mut batch: Batch,
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
                let refreshed = self.shared.catalog.refresh(route).await;
                refreshed.map_err(|error| plugins_failed(&error))?;
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
            Ok(None) => Ok(Tried::Committed(Box::new(round))),
            _ => {
                self.withdraw(counted);
                written.map(|tried| tried.unwrap_or(Tried::Again))
            }
        }
    }

    /// Writes and commits what may be; what became of it otherwise.
    async fn write(
        &mut self,
        mut batch: Batch,
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
        self.claimed.started.extend(began);
        Ok(None)
    }

    /// The next record to decide once the first `covered` items are committed. Rows don't move it.
    fn next_after(&self, covered: usize, items: &Items) -> Offset {
        let (fetched, next_offset) = (&self.claimed.fetched, self.claimed.reached.next_offset);
        if items.list.iter().any(|item| item.waited().is_some()) || covered == 0 {
            return next_offset;
        }
        let last = fetched.pending.get(covered - 1);
        let after = last.map_or(next_offset, |message| message.position.offset + 1);
        match fetched.end {
            Some(end) if covered == fetched.pending.len() => end.max(after),
            _ => after,
        }
    }

    /// Advances progress and commits; then the frame is on its way.
    pub(super) async fn store_batch(
        &mut self,
        batch: Batch,
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
        let known = Some(self.claimed.reached.published);
        let batch = batch.having_worked(self.claimed.waiting.worked.millis());
        let frame = match batch
            .commit(self.claimed.reached.next_offset, frame, token, known)
            .await
        {
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
        self.claimed.reached.batch = frame.batch;
        self.claimed.reached.next_offset = frame.next_offset;
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
                        && !self.signals.draining.is_cancelled() =>
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
}

/// The machine or the catalog can't give an answer now: no fault of a message.
pub(super) fn plugins_failed(error: &dyn std::error::Error) -> Failure {
    Failure::Trouble {
        dependency: Dependency::Plugins,
        reason: error.to_string(),
        extent: Extent::Own,
    }
}

/// Why a batch was not stored.
pub(super) enum Stored {
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
