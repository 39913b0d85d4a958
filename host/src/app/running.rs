//! A host at work: a worker for each assigned partition, watched, and ended in order.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use taskhost_core::record::TopicPartition;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::parts::Parts;
use crate::dependency::Dependency;
use crate::kafka::{self, Admin, Assignment, Consumer, Disposition};
use crate::shared::Shared;
use crate::telemetry::LifeCycle;
use crate::telemetry::health::PartitionState;
use crate::worker::Worker;

/// How long the workers may take to finish and publish: with what follows below the 10 s that orchestrators give.
const WORKERS_PATIENCE: Duration = Duration::from_secs(5);

/// How long the publisher and the consumer may each take to end.
pub(super) const CLIENTS_PATIENCE: Duration = Duration::from_secs(2);

/// How long joining the group takes at most when nobody has to be waited for.
const JOIN_PATIENCE: Duration = Duration::from_secs(4);

/// How long a host that is told to stop lets a rebalance go on that is under way, and how often it looks.
const REBALANCE_PATIENCE: Duration = Duration::from_secs(2);
const REBALANCE_LOOK: Duration = Duration::from_millis(50);

/// How long the reason of a thread's end may take to be heard of.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(1);

/// How long closing the connections to Postgres may take.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

/// The host's parts and its workers.
pub(super) struct Running {
    parts: Parts,
    shared: Arc<Shared>,
    assignments: mpsc::UnboundedReceiver<Assignment>,
    workers: JoinSet<()>,
    /// Which partition a worker has, and what asks it to finish.
    known: HashMap<Id, (TopicPartition, CancellationToken)>,
    life: LifeCycle,
}

impl Running {
    pub(super) fn new(
        parts: Parts,
        assignments: mpsc::UnboundedReceiver<Assignment>,
        life: LifeCycle,
    ) -> Self {
        Self {
            shared: parts.shared.clone(),
            parts,
            assignments,
            workers: JoinSet::new(),
            known: HashMap::new(),
            life,
        }
    }

    /// Starts workers as the group assigns partitions, and notices how they end. Told to stop, it goes on until the group
    /// is not rebalancing.
    pub(super) async fn serve(
        &mut self,
        shutdown: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<(), Error> {
        let (shared, consumer) = (self.shared.clone(), self.parts.consumer.clone());
        let admin = self.parts.admin.with_patience(REBALANCE_PATIENCE);
        let mut leave = pin!(async {
            shutdown.await;
            let settled = settled(&shared, &admin, &consumer);
            let settled = tokio::time::timeout(REBALANCE_PATIENCE, settled);
            if settled.await.is_err() {
                tracing::info!("the group goes on rebalancing; it is left all the same");
            }
        });
        let (mut open, mut kafka_away) = (self.shared.breakers.subscribe(), false);
        let mut waited = pin!(tokio::time::sleep(JOIN_PATIENCE));
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                () = &mut leave => return Ok(()),
                () = &mut waited, if !told => {
                    told = true;
                    if self.known.is_empty() {
                        tracing::info!("no partition is assigned yet; after a crash Kafka waits for the former member's session to expire (KAFKA_SESSION_TIMEOUT)");
                    }
                }
                () = open.changed() => {
                    let away = open.get().has(Dependency::Kafka);
                    if kafka_away && !away {
                        self.shared.publisher.renew();
                    }
                    kafka_away = away;
                }
                Some(ended) = self.workers.join_next_with_id() => self.ended(ended),
                assignment = self.assignments.recv() => match assignment {
                    Some(assignment) => self.take(assignment)?,
                    None => return Err(self.without_consumer().await),
                },
            }
        }
    }

    /// The consumer's thread ended without a reason. If it panicked, its supervisor is about to say so, and that is the
    /// reason that people are told.
    async fn without_consumer(&self) -> Error {
        tokio::time::sleep(SUPERVISOR_PATIENCE).await;
        kafka::Error::new(
            "consuming",
            Disposition::Fatal,
            "the consumer has ended; start the host again, nothing is lost",
        )
        .into()
    }

    fn take(&mut self, assignment: Assignment) -> Result<(), Error> {
        match assignment {
            Assignment::Assigned {
                partition,
                tag,
                feed,
                draining,
            } => {
                let (shared, token) = (self.shared.clone(), draining.clone());
                let worker = Worker::new(shared, partition.clone(), tag, feed, token);
                let task = self.workers.spawn(worker.run());
                self.known.insert(task.id(), (partition, draining));
            }
            Assignment::Revoked {
                partition,
                tag,
                lost,
            } => {
                let assignment = tag.number();
                let (topic, partition) = (partition.topic, partition.partition);
                tracing::info!(%topic, partition, assignment, lost, "the partition was revoked");
            }
            Assignment::Trouble(error) => self.trouble(&error),
            Assignment::Gone(error) => {
                let breakers = &self.shared.breakers;
                breakers.gone(Dependency::Kafka, &error.to_string());
            }
            Assignment::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// What librdkafka tries again by itself. Some of it comes back each second until somebody does something: that is
    /// said once, and stands in health until the group is joined.
    fn trouble(&self, error: &kafka::Error) {
        let health = &self.shared.health;
        match error.disposition() {
            Disposition::Authorization | Disposition::OtherConsumer => {
                if !health.snapshot().troubles.contains_key("group") {
                    health.set_trouble("group", Some(error.to_string()));
                    tracing::error!(%error, "the group can't be joined; it is tried again");
                }
            }
            _ => {
                tracing::warn!(%error, "Kafka meets trouble and is tried again");
                self.shared.breakers.suspect(Dependency::Kafka);
            }
        }
    }

    /// A worker ends when its partition is given back. One that panics is a bug of the host: its partition stands
    /// still, loudly, and all others go on.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let Some((partition, _)) = self.known.remove(&id) else {
            return;
        };
        let Err(error) = ended else { return };
        let (topic, number) = (&*partition.topic, partition.partition);
        tracing::error!(topic, partition = number, %error, "the partition's worker failed; restart the host to go on, nothing is lost");
        let reason = "worker-failed: a bug of the host; its log has more".to_owned();
        self.shared
            .health
            .set_partition(topic, number, PartitionState::Halted { reason });
        self.shared.metrics.set_halted(topic, number, true);
        let (partition, text) = (number.to_string(), error.to_string());
        let fields = [
            ("topic", topic),
            ("partition", &partition),
            ("reason", "worker-failed"),
            ("text", &text),
            ("nextStep", "restart the host"),
        ];
        self.life.tell("partition.halted", &fields);
    }

    /// Finishes the batches in hand, publishes them and leaves the group.
    pub(super) async fn end(self) {
        let Self {
            parts,
            shared,
            workers,
            known,
            life,
            ..
        } = self;
        let partitions = workers.len();
        tracing::info!(
            partitions,
            "stopping: batches in hand are finished and published"
        );
        for (_, draining) in known.values() {
            draining.cancel();
        }
        if tokio::time::timeout(WORKERS_PATIENCE, workers.join_all())
            .await
            .is_err()
        {
            tracing::warn!(
                "not every partition was finished in time; the next owner recovers the rest"
            );
        }
        shared.publisher.stop(CLIENTS_PATIENCE).await;
        parts.consumer.close(CLIENTS_PATIENCE).await;
        life.tell("host.stopped", &[]);
        life.end(CLIENTS_PATIENCE / 2).await;
        // A connection that is dead without knowing it may take for ever to be closed.
        let closed = tokio::time::timeout(CLOSE_PATIENCE, parts.store.close());
        if closed.await.is_err() {
            tracing::info!("some connections to Postgres are left to end with the process");
        }
        tracing::info!("stopped");
    }
}

/// Waits until the group is not rebalancing. A member that has asked to join can't leave before it is answered; it keeps
/// all others waiting until then, and the partitions that the rebalance moves are nobody's until the one after it is over.
async fn settled(shared: &Shared, admin: &Admin, consumer: &Consumer) {
    let open = shared.breakers.subscribe();
    let mut told = false;
    // Nothing is waited for while a dependency is away.
    while !open.peek().any() && is_rebalancing(shared, admin, consumer).await {
        if !told {
            told = true;
            tracing::info!("told to stop: the group is left when its rebalance is over");
        }
        tokio::time::sleep(REBALANCE_LOOK).await;
    }
}

/// What this member knows, and what the coordinator says, if it answers.
async fn is_rebalancing(shared: &Shared, admin: &Admin, consumer: &Consumer) -> bool {
    let group = &shared.rules.group;
    let rebalancing = async { admin.group(group).await.map(|found| found.is_rebalancing()) };
    consumer.is_rejoining() || rebalancing.await.unwrap_or(false)
}
