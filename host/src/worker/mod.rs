//! One assigned partition at work: performs what core's [`Partition`] says, and feeds back what happened.
//!
//! ```text
//!  feed ──► gather ──► items ──► round::decide (core, plugin) ──► commit (Postgres) ──► publisher
//!             rows ──►               ▲                                │
//!                                    └──────── tasks, locked ◄────────┘ one transaction
//! ```
//!
//! Nothing is decided here. [`recover`] carries out the steps from claim to assignment. [`work`] gathers records and waits
//! for what comes, and [`rows`] finds what is due. [`rounds`] takes both through the ladder, [`commit`] commits one round,
//! and [`settle`] does what follows. What fails is trouble (the step is repeated after a backoff), uncertainty (everything
//! is read again), or a halt.

mod claimed;
mod commit;
mod dependencies;
mod halt;
mod others;
mod recover;
mod rounds;
mod routes;
mod rows;
mod settle;
mod starts;
mod stranded;
mod work;

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::halt::Halt;
use taskhost_core::partition::{Action, Event, Partition};
use taskhost_core::record::TopicPartition;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::breakers::dependencies::{Eras, Open};
use crate::dependency::Dependency;
use crate::log::{Feed, Tag};
use crate::shared::Shared;
use crate::store::Key;
use crate::telemetry::health::PartitionState;
use crate::watched::Watcher;
use taskhost_core::breaker::Extent;

use claimed::Claimed;
use tokio::time::Instant;

/// The longest backoff: an outage that ends is noticed within it.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// One partition between its assignment and its end.
pub struct Worker {
    shared: Arc<Shared>,
    partition: TopicPartition,
    key: Key,
    tag: Tag,
    feed: Feed,
    /// Numbers of the topic's routes.
    own_routes: Vec<usize>,
    /// What wakes it.
    signals: Signals,
    /// The breakers' eras in which the step in hand began.
    eras: Eras,
    /// What the last step failed with.
    trouble: Option<String>,
    machine: Partition,
    /// When the partition was assigned: where this worker's own clock begins.
    began: Instant,
    /// What belongs to the last claim.
    claimed: Claimed,
}

/// What wakes a worker.
struct Signals {
    /// The partition is to be given back.
    draining: CancellationToken,
    /// Which dependencies are away.
    open: Watcher<Open>,
    /// Something changed about the breakers of routes.
    routes_changed: Watcher<u64>,
    /// A row of this partition may be due.
    poked: Arc<Notify>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Worker({} at {}, batch {})",
            self.partition, self.claimed.reached.next_offset, self.claimed.reached.batch
        )
    }
}

/// Why a step did not go through.
#[derive(Debug)]
enum Failure {
    /// Infrastructure: the same again, after a pause.
    Trouble {
        /// Which part of it; none if a plugin has no room on this machine, for which no breaker is there.
        dependency: Option<Dependency>,
        /// What was said.
        reason: String,
        /// How much of it.
        extent: Extent,
    },
    /// Memory is not to be trusted.
    Uncertain(String),
    /// The partition is somebody else's.
    NotOwner,
    /// A person must decide.
    Halt(Halt),
}

impl Worker {
    /// A worker for a partition that was just assigned.
    pub fn new(
        shared: Arc<Shared>,
        partition: TopicPartition,
        tag: Tag,
        feed: Feed,
        draining: CancellationToken,
    ) -> Self {
        let key = Key::new(shared.rules.group.clone(), partition.clone());
        let poked = shared.waker.register(&partition);
        let machine = Partition::new(shared.rules.reset);
        let signals = Signals {
            draining,
            open: shared.breakers.subscribe(),
            routes_changed: shared.routes_breakers.subscribe(),
            poked,
        };
        let routes = shared.rules.routes.iter().enumerate();
        let own = routes.filter(|(_, route)| *route.topic == *partition.topic);
        let own_routes = own.map(|(number, _)| number).collect();
        Self {
            shared,
            partition,
            key,
            tag,
            feed,
            own_routes,
            signals,
            eras: Eras::default(),
            trouble: None,
            machine,
            began: Instant::now(),
            claimed: Claimed::default(),
        }
    }

    /// Works until the partition is revoked or the host stops.
    pub async fn run(mut self) {
        let span = tracing::info_span!("partition", topic = %self.partition.topic, partition = self.partition.partition);
        async {
            loop {
                let action = self.machine.action().clone();
                if action == Action::Stop {
                    break;
                }
                let event = self.step(action).await;
                self.machine.handle(event);
            }
        }
        .instrument(span)
        .await;
        let (topic, partition) = (&*self.partition.topic, self.partition.partition);
        self.shared.places.remove(&self.partition);
        self.shared.health.remove_partition(topic, partition);
        self.shared.metrics.remove_partition(topic, partition);
        self.shared
            .waker
            .forget(&self.partition, &self.signals.poked);
        self.shared.publisher.end(&self.partition, self.tag);
        let ownership = self.shared.log.ownership();
        ownership.released(&self.partition, self.tag);
    }

    /// Carries out one action. Being asked to drain interrupts every one but work and release, which look for
    /// themselves: a batch in hand is finished.
    async fn step(&mut self, action: Action) -> Event {
        if matches!(action, Action::Release) {
            self.show(&action);
            return self.perform(action).await;
        }
        let draining = self.signals.draining.clone();
        let waited = tokio::select! {
            biased;
            () = draining.cancelled() => return Event::Drain,
            waited = self.await_dependencies() => waited,
        };
        // A halt is shown once it stands in the partition's row, where commands look for it, and then it stays.
        let halts = matches!(action, Action::Halt(_));
        if !halts {
            self.show(&action);
        }
        match action {
            // It has waited, for what it failed at or for longer than that.
            Action::Wait { .. } if waited => Event::Done,
            _ => {
                let pauses = self.show_pauses(&action);
                let interrupted = !matches!(action, Action::Work);
                tokio::select! {
                    biased;
                    () = draining.cancelled(), if interrupted => Event::Drain,
                    event = self.perform(action) => event,
                    never = pauses, if !halts => match never {},
                }
            }
        }
    }

    async fn perform(&mut self, action: Action) -> Event {
        // On the heap, so that one of them after another needs no room on the stack of the thread.
        let result = match action {
            Action::Claim => Box::pin(self.claim()).await,
            Action::Fence { owners } => Box::pin(self.fence(owners)).await,
            Action::Inspect => Box::pin(self.inspect()).await,
            Action::Start { offset, log } => Box::pin(self.start(offset, log)).await,
            Action::OwnAlone => Box::pin(self.own_alone()).await,
            Action::CommitOffset(mark) => Box::pin(self.commit_offset(mark)).await,
            Action::MarkPublished { batch } => Box::pin(self.mark_published(batch)).await,
            Action::Publish { first, last } => Box::pin(self.publish_stored(first, last)).await,
            Action::Assign { offset, batch } => Box::pin(self.assign(offset, batch)).await,
            Action::Unassign => Box::pin(self.unassign()).await,
            Action::Work => Box::pin(self.work()).await,
            Action::Wait { attempt } => {
                self.back_off(attempt).await;
                Ok(Event::Done)
            }
            Action::Halt(halt) => Box::pin(self.stand_still(&halt)).await,
            Action::Release => Box::pin(self.release()).await,
            Action::Stop => Ok(Event::Done),
        };
        match result {
            Ok(event) => event,
            Err(failure) => self.report(failure),
        }
    }

    /// Logs a failure and says what it means to the machine.
    fn report(&mut self, failure: Failure) -> Event {
        match failure {
            Failure::Trouble {
                dependency,
                reason,
                extent,
            } => {
                if let Some(name) = dependency {
                    self.shared
                        .breakers
                        .failed(name, self.eras, extent, &reason);
                }
                tracing::warn!(
                    ?dependency,
                    reason,
                    "the step is repeated after a pause; nothing is lost"
                );
                self.trouble = Some(reason);
                Event::Trouble
            }
            Failure::Uncertain(reason) => {
                tracing::warn!(reason, "the partition is read anew");
                self.trouble = Some(reason);
                Event::Uncertain
            }
            Failure::NotOwner => Event::NotOwner,
            Failure::Halt(halt) => Event::Halted(halt),
        }
    }

    fn show(&self, action: &Action) {
        self.shared.health.set_partition(
            &self.partition.topic,
            self.partition.partition,
            self.state(action),
        );
    }

    fn state(&self, action: &Action) -> PartitionState {
        match action {
            Action::Claim | Action::Fence { .. } => PartitionState::Claiming,
            Action::Work => PartitionState::Running,
            Action::Release | Action::Stop => PartitionState::Draining,
            Action::Wait { .. } => PartitionState::Paused {
                reason: self.trouble.clone().unwrap_or_default(),
            },
            Action::Halt(halt) => PartitionState::Halted {
                reason: format!(
                    "{}: {halt}; {}",
                    halt.code(),
                    halt.next_step(&self.partition)
                ),
            },
            _ => PartitionState::Recovering,
        }
    }
}

impl From<crate::store::Error> for Failure {
    fn from(error: crate::store::Error) -> Self {
        use crate::store::{Disposition, Error};
        match error.disposition() {
            Disposition::Trouble | Disposition::Raced => Self::Trouble {
                dependency: Some(Dependency::Postgres),
                reason: error.to_string(),
                extent: error.extent(),
            },
            Disposition::Lost => Self::Uncertain(error.to_string()),
            Disposition::Message | Disposition::Halt => Self::Halt(match error {
                Error::FrameUnreadable { batch, .. } | Error::FrameMisplaced { batch, .. } => {
                    Halt::FrameUnreadable { batch }
                }
                other => Halt::Refused {
                    reason: other.to_string(),
                },
            }),
        }
    }
}

impl From<crate::kafka::Error> for Failure {
    fn from(error: crate::kafka::Error) -> Self {
        Self::Trouble {
            dependency: Some(Dependency::Kafka),
            reason: error.to_string(),
            extent: error.extent(),
        }
    }
}
