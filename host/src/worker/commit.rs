//! One round: read without locks, decide, then one transaction that checks everything and does everything or nothing.

use std::sync::Arc;
use std::time::Instant;

use taskhost_core::fault::Fault;
use taskhost_core::frame::Frame;
use taskhost_core::halt::Halt;
use taskhost_core::record::{Offset, Record};
use taskhost_core::round::{self, Ground, Items, Round, Rung, Unanswered};
use taskhost_core::task::TaskId;
use uuid::Uuid;

use super::plugins::Plugins;
use super::purity::Evidence;
use super::{Dependency, Failure, Worker, now};
use crate::breaker::{Extent, Name};
use crate::failpoint;
use crate::mutant::{self, Mutant};
use crate::store::{Batch, Commit, Disposition, Error, Question};

/// How a try to commit a round ended.
pub(super) enum Tried {
    /// It is committed.
    Committed(Box<Round>),
    /// A route has another plugin by now: the same again, at once.
    Again,
    /// Others changed what it was decided on, these tasks among it.
    Conflict(Vec<TaskId>),
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

/// What a round was decided from.
struct Decided<'a> {
    items: &'a Items,
    plugins: &'a Plugins,
    ground: &'a Ground,
}

impl Worker {
    /// One try: read, decide, commit. Nothing is locked and no connection held meanwhile, but as a last resort: then the
    /// tasks are locked first.
    pub(super) async fn attempt(
        &mut self,
        items: &Arc<Items>,
        plugins: &Plugins,
        rung: &Rung,
        is_last_resort: bool,
    ) -> Result<Tried, Failure> {
        failpoint::hit("before-batch");
        let held = match is_last_resort {
            true => Some(self.lock(items).await?),
            false => None,
        };
        let Some(ground) = self.ground(items).await? else {
            // Cancelled or replaced since it was found: look again.
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
            Err(Unanswered::Fault(_)) => return Ok(Tried::Exceeded),
            Err(machine) => return Err(plugins_failed(&machine)),
        };
        let covered = u32::try_from(round.covered).unwrap_or(u32::MAX);
        self.shared.metrics.decided(covered, began.elapsed());
        if round.covered == 0 && !items.list.is_empty() {
            return Ok(Tried::Nothing);
        }
        let waiting_for = round.waiting_for(&ground);
        let decided = Decided {
            items,
            plugins,
            ground: &ground,
        };
        let mut tried = self.commit(held, &decided, round).await?;
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

    /// A transaction in which nobody else changes the items' tasks.
    async fn lock(&mut self, items: &Items) -> Result<Batch, Failure> {
        let mut batch = self.begin().await?;
        batch.lock_tasks(&items.tasks()).await?;
        Ok(batch)
    }

    /// What the items are decided on; none if one of their rows is gone.
    pub(super) async fn ground(&mut self, items: &Items) -> Result<Option<Ground>, Failure> {
        let (tasks, rows, letters) = (items.tasks(), items.rows(), items.letters());
        let waiting = &self.claimed.waiting;
        let question = Question {
            epoch: self.claimed.epoch,
            tasks: &tasks,
            rows: &rows,
            letters: &letters,
            ahead: waiting.count > 0 || waiting.holding,
        };
        let read = self.shared.store.read(&self.key, question).await?;
        self.check_place(read.checkpoint)?;
        if read.rows != rows.len() {
            return Ok(None);
        }
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
            ahead: read.ahead,
            tasks: read.tasks,
            breakers: snapshots
                .filter_map(|route| Some((route, breakers.snapshot(route)?)))
                .collect(),
            is_probe: self.claimed.routes.probing.is_some(),
            keep: false,
        }))
    }

    /// Opens a batch where this worker left the partition.
    pub(super) async fn begin(&mut self) -> Result<Batch, Failure> {
        let store = &self.shared.store;
        let batch = store.begin(&self.key, self.claimed.epoch).await?;
        self.check_place(batch.checkpoint())?;
        Ok(batch)
    }

    /// Commits what was decided, if all that it rests on is unchanged.
    async fn commit(
        &mut self,
        held: Option<Batch>,
        decided: &Decided<'_>,
        mut round: Round,
    ) -> Result<Tried, Failure> {
        let mut batch = match held {
            Some(batch) => batch,
            None => self.begin().await?,
        };
        let seen = decided.ground.tasks.iter();
        let seen = seen.map(|task| (&task.id, task.version)).collect();
        let rows = decided.items.rows();
        if let Err(error) = batch.check(&round.set, &seen, &rows).await {
            batch.rollback().await;
            return self.conflict(error);
        }
        let (items, plugins) = (decided.items, decided.plugins);
        if !self.check_activations(&mut batch, items, plugins).await? {
            batch.rollback().await;
            self.shared.metrics.conflict("activation");
            return self.refresh(items).await;
        }
        let counted = match self.judge(&round, plugins) {
            Ok(counted) => counted,
            Err(not) => {
                batch.rollback().await;
                return Ok(not);
            }
        };
        match self.write(batch, decided, &mut round).await {
            Ok(None) => Ok(Tried::Committed(Box::new(round))),
            not => {
                self.withdraw(counted);
                not.map(|tried| tried.unwrap_or(Tried::Again))
            }
        }
    }

    /// What it means that the batch doesn't fit what is stored by now.
    fn conflict(&self, error: Error) -> Result<Tried, Failure> {
        match error {
            Error::Conflict { tasks } => {
                self.shared.metrics.conflict("task");
                Ok(Tried::Conflict(tasks))
            }
            Error::CreationRaced { .. } => {
                self.shared.metrics.conflict("creation");
                Ok(Tried::Conflict(Vec::new()))
            }
            Error::RowsGone => {
                self.shared.metrics.conflict("row");
                Ok(Tried::Nothing)
            }
            error if error.disposition() == Disposition::Message => {
                Ok(Tried::Refused(error.to_string()))
            }
            error => Err(error.into()),
        }
    }

    async fn check_activations(
        &mut self,
        batch: &mut Batch,
        items: &Items,
        plugins: &Plugins,
    ) -> Result<bool, Failure> {
        let routes = items.routes();
        let name = |route: usize| self.shared.routes[route].name.as_str();
        let number = |route: usize| plugins.activation(route).unwrap_or(0);
        let under: Vec<(&str, i64)> = routes
            .iter()
            .map(|route| (name(*route), number(*route)))
            .collect();
        Ok(batch.check_activations(&under).await?)
    }

    /// Takes the versions that are current by now.
    async fn refresh(&mut self, items: &Items) -> Result<Tried, Failure> {
        for route in items.routes() {
            let refreshed = self.shared.catalog.refresh(route).await;
            refreshed.map_err(|error| plugins_failed(&error))?;
        }
        Ok(Tried::Again)
    }

    /// Writes and commits what may be; what became of it otherwise.
    async fn write(
        &mut self,
        mut batch: Batch,
        decided: &Decided<'_>,
        round: &mut Round,
    ) -> Result<Option<Tried>, Failure> {
        let (items, plugins) = (decided.items, decided.plugins);
        if let Err(error) = batch.write(&round.set, decided.ground.now).await {
            return self.conflict(error).map(Some);
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
        self.claimed.reached.token = Some(token);
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
