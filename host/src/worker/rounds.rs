//! Records and waiting rows on their way through the ladder: what a round takes, and what its end means for the next one.

use std::sync::Arc;

use taskhost_core::batch::{Wakeup, WriteSet};
use taskhost_core::halt::Halt;
use taskhost_core::record::Offset;
use taskhost_core::round::{Conflicts, Items, Ladder, Letters, Reading, Rung};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::Why;
use tokio::time::Instant;
use uuid::Uuid;

use super::commit::Tried;
use super::{Failure, Worker};
use crate::mutant::{self, Mutant};
use crate::shared::Plugins;
use crate::shared::{next_span, of_hint};
use crate::store::Checkpoint;
use taskhost_core::breaker::Extent;

/// Where a round takes its causes from.
#[derive(Debug)]
pub(super) enum From {
    /// The records that were fetched.
    Records,
    /// Rows that are due, or replays.
    Rows(Rows),
}

/// Rows that are decided together.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// In order.
    pub(super) list: Vec<Wakeup>,
    /// The dead letters that they stand for.
    pub(super) letters: Letters,
    /// Due rows that are blocked by earlier ones.
    pub(super) blocked: Vec<(TaskId, Uuid)>,
}

impl Worker {
    /// Decides and commits what there is: all of it, or less where a batch has to be cut. False if nothing of it could be
    /// decided, or nothing counts any more.
    pub(super) async fn round(&mut self, from: &From) -> Result<bool, Failure> {
        let began = Instant::now();
        self.ladder(from).begin();
        let mut conflicts = Conflicts::default();
        loop {
            let plugins = self.plugins()?;
            let rung = self.rung(from);
            let (items, put_off) = self
                .items(from, &plugins, rung.items_max().min(conflicts.items_max()))
                .await?;
            if items.is_empty() {
                return Ok(put_off);
            }
            let items = Arc::new(items);
            let last = conflicts.is_last_resort();
            match Box::pin(self.attempt(&items, &plugins, &rung, last)).await? {
                Tried::Committed(round) => {
                    self.ladder(from)
                        .committed(round.covered, round.faults.len());
                    if matches!(from, From::Records) {
                        self.claimed.fetched.pending.drain(..round.covered);
                    }
                    self.settle(&round, began);
                    return Ok(true);
                }
                Tried::Again => {}
                Tried::Conflict(tasks) => conflicts.lost(&items, &tasks),
                Tried::Exceeded => self.ladder(from).exceeded(),
                Tried::Refused(reason) => {
                    let count = items.list.len();
                    let refused = self.ladder(from).refused(&rung, count, reason);
                    refused.map_err(|reason| Failure::Halt(Halt::Refused { reason }))?;
                }
                Tried::Nothing | Tried::Shut => return Ok(false),
                Tried::ProbeFailed(fault) => {
                    let (all, _) = self.items(from, &plugins, usize::MAX).await?;
                    self.probe_failed(&fault, all, &plugins).await?;
                    self.ladder(from).isolate(1);
                    return Ok(false);
                }
            }
            if self.signals.draining.is_cancelled() {
                return Ok(false);
            }
        }
    }

    fn ladder(&mut self, from: &From) -> &mut Ladder {
        match from {
            From::Records => &mut self.claimed.records,
            From::Rows(_) => &mut self.claimed.rows,
        }
    }

    fn rung(&mut self, from: &From) -> Rung {
        let is_probe = self.claimed.routes.probing.is_some();
        let rung = self.ladder(from).rung();
        // What was too slow alone would be too slow in a batch, and that would cost everybody twice the deadline.
        let was_slow = matches!(from, From::Rows(rows) if rows.list.iter().any(|row| row.why == Why::Deadline));
        match rung {
            Rung::Together { .. } | Rung::OneByOne if is_probe => Rung::Alone,
            Rung::Together { .. } if was_slow => Rung::OneByOne,
            rung => rung,
        }
    }

    /// At most so many items, and whether rows were put off that can't be decided here.
    async fn items(
        &mut self,
        from: &From,
        plugins: &Plugins,
        most: usize,
    ) -> Result<(Items, bool), Failure> {
        let (items, stranded) = self.read(plugins, |reading| match from {
            From::Records => {
                let records = self.claimed.fetched.pending.iter().take(most);
                (Items::of_records(records, reading), Vec::new())
            }
            From::Rows(rows) => {
                let count = most.min(rows.list.len());
                let (items, stranded) = Items::of_rows(&rows.list[..count], &rows.letters, reading);
                let blocked = rows.blocked.clone();
                (Items { blocked, ..items }, stranded)
            }
        });
        let put_off = self.strand(&stranded).await?;
        Ok((items, put_off > 0))
    }

    /// The number of the route of the next record; none for one that can't be decoded.
    pub(super) fn next_route(&self) -> Result<Option<usize>, Failure> {
        let plugins = self.plugins()?;
        let first = self.claimed.fetched.pending.iter().take(1);
        let items = self.read(&plugins, |reading| Items::of_records(first, reading));
        let mut causes = items.causes();
        Ok(causes.next().map(|(_, cause)| cause.route))
    }

    fn read<T>(&self, plugins: &Plugins, make: impl FnOnce(&Reading<'_>) -> T) -> T {
        make(&Reading {
            routes: &self.shared.rules.routes,
            partition: &self.partition,
            topic_id: self.topic_id(),
            descriptor: &|route| plugins.decider(route).descriptor.clone(),
            trace: &of_hint,
            next_span: &next_span,
        })
    }

    fn topic_id(&self) -> Uuid {
        let inspected = self.claimed.inspected.as_ref();
        inspected.map_or(Uuid::nil(), |(log, _)| log.topic_id)
    }

    /// A batch without causes: moves past commit markers, so that lag is 0 and retention never overtakes an idle partition.
    pub(super) async fn advance(&mut self, end: Offset) -> Result<(), Failure> {
        let began = Instant::now();
        let commitment = self.commitment(end, Vec::new());
        self.commit(None, commitment).await?;
        self.count(&WriteSet::default(), began);
        Ok(())
    }

    /// What is current for the partition's routes.
    pub(super) fn plugins(&self) -> Result<Plugins, Failure> {
        let Self {
            shared, partition, ..
        } = self;
        Plugins::current(&*shared.deciders, &shared.rules, &partition.topic).ok_or_else(|| {
            Failure::Trouble {
                dependency: None,
                reason: "a route of this topic has no plugin".to_owned(),
                extent: Extent::Own,
            }
        })
    }

    /// Progress must be where this worker left it; if not, somebody else was here, or the server lags behind.
    pub(super) fn check_place(&self, found: Checkpoint) -> Result<(), Failure> {
        let reached = self.claimed.reached;
        let left = reached.checkpoint();
        match found == left || mutant::is_armed(Mutant::Epoch) {
            true => Ok(()),
            false => Err(Failure::Uncertain(format!(
                "progress is at batch {} and offset {}, not at {} and {}, where this host left it",
                found.batch, found.next_offset, left.batch, left.next_offset
            ))),
        }
    }
}
