//! One round: read without locks, decide, then one call that checks everything and does everything or nothing.

use std::sync::{Arc, LazyLock};

use taskhost_core::batch::WriteSet;
use taskhost_core::fault::Fault;
use taskhost_core::frame::Frame;
use taskhost_core::record::{Offset, Record};
use taskhost_core::round::{self, Ground, Items, Round, Rung, Unanswered};
use taskhost_core::task::TaskId;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Failure, Worker};
use crate::chance;
use crate::clock::now;
use crate::dependency::Dependency;
use crate::failpoint;
use crate::ledger::Held;
use crate::mutant::{self, Mutant};
use crate::shared::{Evidence, Plugins, deciding};
use crate::store::{Commit, Commitment, Disposition, Error, Question, Seen};
use taskhost_core::breaker::Extent;

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

/// What a batch writes that decides nothing.
static NOTHING: LazyLock<WriteSet> = LazyLock::new(WriteSet::default);

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
            true => {
                let (ledger, epoch) = (&self.shared.ledger, self.claimed.epoch);
                Some(ledger.lock(&self.key, epoch, &items.tasks()).await?)
            }
            false => None,
        };
        let Some(ground) = self.read_ground(items).await? else {
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
        let decided = deciding(|| round::decide(items, &ground, rung, &asking));
        let round = match decided {
            Ok(round) => round,
            Err(Unanswered::Fault(_)) => return Ok(Tried::Exceeded),
            Err(machine) => return Err(plugins_failed(&machine.to_string())),
        };
        let covered = u32::try_from(round.covered).unwrap_or(u32::MAX);
        self.shared.metrics.decided(covered, began.elapsed());
        if round.covered == 0 && !items.list.is_empty() {
            return Ok(Tried::Nothing);
        }
        let waiting_for = round.waiting_for(&ground);
        let mut tried = self
            .judge_and_commit(held, items, plugins, &ground, round)
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
    pub(super) async fn read_ground(&mut self, items: &Items) -> Result<Option<Ground>, Failure> {
        let (tasks, rows, letters) = (items.tasks(), items.rows(), items.letters());
        let waiting = &self.claimed.waiting;
        let question = Question {
            epoch: self.claimed.epoch,
            tasks: &tasks,
            rows: &rows,
            letters: &letters,
            ahead: waiting.count > 0 || waiting.holding,
        };
        let read = self.shared.ledger.read(&self.key, question).await?;
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

    /// Commits what was decided, if the breakers let it and all that it rests on is unchanged.
    async fn judge_and_commit(
        &mut self,
        held: Option<Box<dyn Held>>,
        items: &Items,
        plugins: &Plugins,
        ground: &Ground,
        mut round: Round,
    ) -> Result<Tried, Failure> {
        let counted = match self.judge(&round, plugins) {
            Ok(counted) => counted,
            Err(not) => return Ok(not),
        };
        let (rows, starts) = (items.rows(), self.starts(items, plugins, round.covered));
        let shared = self.shared.clone();
        let number = |route: usize| plugins.activation(route).unwrap_or(0);
        let routes = items.routes().into_iter();
        let activations: Vec<(&str, i64)> = routes
            .map(|route| (shared.rules.routes[route].name.as_str(), number(route)))
            .collect();
        let next_offset = self.next_after(round.covered, items);
        let records = std::mem::take(&mut round.set.records);
        let tasks = ground.tasks.iter();
        let commitment = Commitment {
            set: &round.set,
            seen: Seen {
                tasks: tasks.map(|task| (&task.id, task.version)).collect(),
                rows: &rows,
                activations: &activations,
            },
            starts: &starts,
            now: ground.now,
            ..self.commitment(next_offset, records)
        };
        let not = match self.commit(held, commitment).await {
            Ok(()) => {
                let began = starts.into_iter().map(|start| (start.route, start.number));
                self.claimed.started.extend(began);
                return Ok(Tried::Committed(Box::new(round)));
            }
            Err(Stored::Failed(failure)) => Err(failure),
            Err(Stored::Not(error)) => self.count_conflict(error, items).await,
        };
        self.withdraw(counted);
        not
    }

    /// What it means that nothing was committed.
    async fn count_conflict(&mut self, error: Error, items: &Items) -> Result<Tried, Failure> {
        let metrics = &self.shared.metrics;
        match error {
            Error::Conflict { tasks } => {
                metrics.conflict("task");
                Ok(Tried::Conflict(tasks))
            }
            Error::CreationRaced { .. } => {
                metrics.conflict("creation");
                Ok(Tried::Conflict(Vec::new()))
            }
            Error::RowsGone => {
                metrics.conflict("row");
                Ok(Tried::Nothing)
            }
            Error::Activated => {
                metrics.conflict("activation");
                // The versions that are current by now decide it again.
                for route in items.routes() {
                    let refreshed = self.shared.deciders.refresh(route).await;
                    refreshed.map_err(|reason| plugins_failed(&reason))?;
                }
                Ok(Tried::Again)
            }
            // Fewer at once may do. Alone, only somebody's value is to blame.
            error if error.is_for_fewer() && items.list.len() > 1 => {
                Ok(Tried::Refused(error.to_string()))
            }
            error if error.disposition() == Disposition::Message => {
                Ok(Tried::Refused(error.to_string()))
            }
            error => Err(error.into()),
        }
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

    /// The commit of a batch that decides nothing.
    pub(super) fn commitment(
        &self,
        next_offset: Offset,
        records: Vec<Record>,
    ) -> Commitment<'static> {
        let reached = self.claimed.reached;
        let batch = reached.batch + 1;
        Commitment {
            owner: (self.claimed.epoch, reached.checkpoint()),
            set: &NOTHING,
            seen: Seen::default(),
            starts: &[],
            now: now(),
            worked: self.claimed.waiting.worked.millis(),
            frame: Frame {
                batch,
                next_offset,
                records,
            },
            token: match mutant::is_armed(Mutant::Token) {
                true => Uuid::from_u64_pair(0, batch.unsigned_abs()),
                false => chance::uuid(),
            },
            published: Some(reached.published),
        }
    }

    /// Commits; then the frame is on its way.
    pub(super) async fn commit(
        &mut self,
        held: Option<Box<dyn Held>>,
        commitment: Commitment<'_>,
    ) -> Result<(), Stored> {
        let (began, token) = (Instant::now(), commitment.token);
        let committed = match held {
            Some(held) => held.commit(commitment).await,
            None => self.shared.ledger.commit(&self.key, commitment).await,
        };
        let frame = match committed {
            Ok(Commit::Committed(frame)) => frame,
            Ok(Commit::Unknown { frame, error }) => {
                tracing::warn!(%error, "the answer to COMMIT was lost; asking for the outcome");
                match self.ask_whether_committed(token).await? {
                    true => frame,
                    false => {
                        let reason = "a batch was not committed after all".to_owned();
                        return Err(Stored::Failed(Failure::Uncertain(reason)));
                    }
                }
            }
            Err(error) => return Err(Stored::Not(error)),
        };
        self.shared.metrics.committed(began.elapsed());
        self.claimed.reached.committed(&frame, token);
        self.publish(frame, Some(token));
        Ok(())
    }

    /// Asks for a batch's outcome until there is an answer: nobody else can know it.
    async fn ask_whether_committed(&mut self, token: Uuid) -> Result<bool, Stored> {
        let mut attempt = 0;
        loop {
            match self.shared.ledger.settle(&self.key, token).await {
                Ok(committed) => return Ok(committed),
                Err(error)
                    if error.disposition() == Disposition::Trouble
                        && !self.signals.draining.is_cancelled() =>
                {
                    tracing::warn!(%error, "the outcome of a batch is not known yet");
                    let (eras, extent) = (self.eras, error.extent());
                    let breakers = &self.shared.breakers;
                    breakers.failed(Dependency::Postgres, eras, extent, &error.to_string());
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
pub(super) fn plugins_failed(reason: &str) -> Failure {
    Failure::Trouble {
        dependency: None,
        reason: reason.to_owned(),
        extent: Extent::Own,
    }
}

/// Why a batch was not stored.
pub(super) enum Stored {
    /// It certainly wasn't.
    Not(Error),
    /// Nobody knows, or there is no use in asking.
    Failed(Failure),
}

impl From<Stored> for Failure {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Failed(failure) => failure,
            Stored::Not(error) => error.into(),
        }
    }
}
