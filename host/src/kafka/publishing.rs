//! The publisher's thread: takes orders, runs transactions, and handles their results.
//!
//! The order of each transaction is: read the group membership, check the tags under the revoke lock, run the transaction.
//! If a partition is lost after the check, the membership's generation is old, and the broker refuses the transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use taskhost_core::frame::BatchNumber;
use taskhost_core::record::TopicPartition;
use tokio::sync::oneshot;

use super::Settings;
use super::answer::{Answer, Unpublished};
use super::consumer::Consumer;
use super::error::Disposition;
use super::group::Membership;
pub(crate) use super::lanes::Work;
use super::lanes::{Item, Lanes, Share};
use super::limits::Limits;
use super::ownership::Tag;
use super::producer::TransactionalProducer;
use super::rights::{GRANT_IT, MissingRight};
use super::transaction::{self, Cause, Outcome, Part, PublishObserver};
use super::turns::Turns;

/// The longest sleep: librdkafka's log lines are served at least this often.
const IDLE: Duration = Duration::from_millis(500);

/// First pause after a failure; it doubles, up to the last, with full jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(5);

/// Pause while the consumer is not a member of its group, or doesn't know its new membership yet during a rebalance.
const MEMBER_PAUSE: Duration = Duration::from_millis(20);

/// How long a membership that the broker called outdated is not used again. The consumer learns the new one within a round
/// trip or, if the answer was lost, with the next heartbeat.
const OUTDATED_PATIENCE: Duration = Duration::from_secs(1);

/// How long taking the transactional id may take before the next try.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// What workers ask for.
pub(crate) enum Order {
    Begin {
        partition: TopicPartition,
        tag: Tag,
        next: BatchNumber,
    },
    Publish {
        partition: TopicPartition,
        tag: Tag,
        work: Work,
        reply: oneshot::Sender<Answer>,
    },
    End {
        partition: TopicPartition,
        tag: Tag,
    },
    Withdraw {
        partition: TopicPartition,
        tag: Tag,
        reply: oneshot::Sender<()>,
    },
    Follow(Arc<Consumer>),
    Hurry,
    Renew,
    RecommitByAll {
        partition: TopicPartition,
        tag: Tag,
        work: Work,
        former: Vec<String>,
    },
    Stop {
        deadline: Instant,
    },
}

pub(crate) struct Thread {
    settings: Settings,
    /// The consumer whose group membership is used for publishing; none until it has started.
    consumer: Option<Arc<Consumer>>,
    limits: Arc<Limits>,
    observer: Arc<dyn PublishObserver>,
    orders: Receiver<Order>,
    ready: Arc<AtomicBool>,
    lanes: Lanes,
    producers: Turns,
    /// Failures to connect in a row, and when to try again.
    disconnected: (u32, Option<Instant>),
    /// Transactions in a row that were aborted without a bad message.
    aborted: u32,
    /// The member and generation that the broker refused, and until when they are not used again.
    outdated: Option<(String, i32, Instant)>,
    stop_by: Option<Instant>,
    /// The workers that wait until nothing of their partition is in flight.
    withdrawn: Vec<oneshot::Sender<()>>,
    /// Partitions with pending offsets: the offset to commit once more, and the former owners.
    hanging: BTreeMap<TopicPartition, (Tag, Work, Vec<String>)>,
}

impl Thread {
    pub(crate) fn new(
        settings: Settings,
        producers: Turns,
        limits: Arc<Limits>,
        observer: Arc<dyn PublishObserver>,
        orders: Receiver<Order>,
        ready: Arc<AtomicBool>,
    ) -> Self {
        Self {
            settings,
            consumer: None,
            limits,
            observer,
            orders,
            ready,
            lanes: Lanes::default(),
            producers,
            disconnected: (0, None),
            aborted: 0,
            outdated: None,
            stop_by: None,
            withdrawn: Vec::new(),
            hanging: BTreeMap::new(),
        }
    }

    pub(crate) fn run(mut self) {
        self.connect();
        while !self.is_over() {
            self.take_orders();
            if self.producers.has_lost_brokers() {
                tracing::info!("the producers had lost all brokers; new ones are created");
                self.producers.discard();
            }
            self.connect();
            if self.producers.is_complete() {
                // No transaction is open here: the last one ended, or init_transactions aborted it.
                for reply in self.withdrawn.drain(..) {
                    let _ = reply.send(());
                }
                self.producers.serve();
                self.recommit_by_all();
                self.publish();
            }
            self.ready
                .store(self.producers.is_complete(), Ordering::Relaxed);
        }
        self.ready.store(false, Ordering::Relaxed);
        self.lanes.refuse_all(&Unpublished::Stopped);
    }

    fn is_over(&self) -> bool {
        self.stop_by
            .is_some_and(|deadline| self.lanes.is_empty() || deadline <= Instant::now())
    }

    /// Waits for orders until there is something to do.
    fn take_orders(&mut self) {
        let now = Instant::now();
        let due = match (self.lanes.due(now), self.producers.is_complete()) {
            (Some(due), true) => due.min(now + IDLE),
            (_, false) => self.disconnected.1.unwrap_or(now).min(now + IDLE),
            (None, true) => now + IDLE,
        };
        let mut order = self.orders.recv_timeout(due.saturating_duration_since(now));
        loop {
            match order {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    // Nobody waits for an answer any more.
                    self.stop_by = Some(now);
                    return;
                }
            }
            order = self.orders.recv_timeout(Duration::ZERO);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Begin {
                partition,
                tag,
                next,
            } => self.lanes.begin(partition, tag, next),
            Order::Publish {
                partition,
                tag,
                work,
                reply,
            } => {
                self.lanes.accept(&partition, tag, Item { work, reply });
            }
            Order::End { partition, tag } => self.lanes.end(&partition, tag),
            Order::Withdraw {
                partition,
                tag,
                reply,
            } => {
                self.lanes.end(&partition, tag);
                self.withdrawn.push(reply);
            }
            Order::Follow(consumer) => self.consumer = Some(consumer),
            Order::Hurry => {
                self.lanes.hurry();
                self.disconnected.1 = None;
            }
            Order::Renew => self.producers.discard(),
            Order::RecommitByAll {
                partition,
                tag,
                work,
                former,
            } => {
                self.hanging.insert(partition, (tag, work, former));
            }
            Order::Stop { deadline } => self.stop_by = Some(deadline),
        }
    }

    fn connect(&mut self) {
        let (failures, not_before) = self.disconnected;
        if self.producers.is_complete() || not_before.is_some_and(|time| time > Instant::now()) {
            return;
        }
        let smallest = self.limits.smallest();
        let settings = &self.settings;
        let connected = self
            .producers
            .connect(|id| TransactionalProducer::connect(settings, id, smallest, CONNECT_PATIENCE));
        match connected {
            Ok(()) => {
                tracing::info!("the publisher is connected");
                self.observer.refused(None);
                self.disconnected = (0, None);
            }
            Err(error) => {
                match error.disposition() {
                    Disposition::Authorization => {
                        let right = MissingRight::transact(&self.settings.transactional_prefix);
                        let reason = format!("{right} and those that begin with it; {GRANT_IT}");
                        tracing::error!(%error, "the publisher is refused: {reason}");
                        self.observer.refused(Some(&reason));
                    }
                    Disposition::Configuration => {
                        tracing::error!(%error, "the publisher is refused");
                        self.observer.refused(Some(&error.to_string()));
                    }
                    _ => tracing::warn!(%error, "the publisher can't connect; trying again"),
                }
                self.disconnected = (failures + 1, Some(backoff(failures + 1)));
            }
        }
    }

    /// Ends pending offsets. The worker that asked looks again, and asks again if they are still pending.
    fn recommit_by_all(&mut self) {
        let hanging = std::mem::take(&mut self.hanging);
        // Without transactions no offsets are pending.
        let Some(consumer) = self
            .consumer
            .clone()
            .filter(|_| !self.settings.at_least_once)
        else {
            return;
        };
        for (partition, (tag, work, former)) in hanging {
            // First the membership, then the tag, as for every publication: the partition may have another owner by now.
            let Some(membership) = self.membership(&consumer) else {
                return;
            };
            if !consumer.ownership().holds(&partition, tag) {
                continue;
            }
            let part = Part {
                partition: &partition,
                frames: Vec::new(),
                offset: work.offset(),
                batch: work.batch(),
            };
            let recommit = |producer: &TransactionalProducer| match transaction::recommit(
                producer,
                &part,
                &consumer,
                &membership,
            ) {
                Outcome::Committed => Ok(()),
                Outcome::Aborted(cause) => Err(cause.reason),
                Outcome::Unknown(reason) => Err(reason),
            };
            let former = former.iter().map(|id| {
                TransactionalProducer::connect(&self.settings, id, None, CONNECT_PATIENCE)
                    .map_err(|error| error.to_string())
                    .and_then(|producer| recommit(&producer))
            });
            let all: Result<(), String> = self
                .producers
                .connected()
                .map(recommit)
                .chain(former)
                .collect();
            match all {
                Ok(()) => {
                    tracing::info!(%partition, "the offset is committed once more, to end pending offsets");
                }
                Err(reason) => {
                    tracing::warn!(%partition, reason, "the offset can't be committed once more; offsets may still be pending");
                    return self.producers.discard();
                }
            }
        }
    }

    /// Runs the next transaction, if there is one.
    fn publish(&mut self) {
        let Some(consumer) = self.consumer.clone() else {
            return;
        };
        let shares = self
            .lanes
            .take(Instant::now(), self.settings.transaction_bytes_max);
        if shares.is_empty() {
            return;
        }
        // First the membership, then the tags: if a partition is lost after this, the generation has changed.
        let membership = self.membership(&consumer);
        let shares = self.owned(&consumer, shares);
        if shares.is_empty() {
            return;
        }
        let (Some(membership), Some(producer)) = (membership, self.producers.current()) else {
            tracing::debug!("this host is not a member of the group now; publishing waits");
            self.lanes
                .put_back(shares, false, |_| Instant::now() + MEMBER_PAUSE);
            return;
        };
        let outcome = self.transact(producer, &shares, &consumer, &membership);
        if matches!(&outcome, Outcome::Aborted(cause) if cause.outdated) {
            let until = Instant::now() + OUTDATED_PATIENCE;
            self.outdated = Some((membership.member(), membership.generation(), until));
        }
        self.settle(shares, outcome);
    }

    /// The present membership, unless it is known to be outdated.
    fn membership(&mut self, consumer: &Consumer) -> Option<Membership> {
        let membership = consumer.membership()?;
        let outdated = self
            .outdated
            .as_ref()
            .is_some_and(|(member, generation, until)| {
                (&membership.member(), membership.generation()) == (member, *generation)
                    && *until > Instant::now()
            });
        if !outdated {
            self.outdated = None;
        }
        (!outdated).then_some(membership)
    }

    /// The shares of partitions that are still owned; the others get their answer.
    fn owned(&mut self, consumer: &Consumer, shares: Vec<Share>) -> Vec<Share> {
        let lost: Vec<TopicPartition> = consumer
            .ownership()
            .lost(shares.iter().map(|share| (&share.partition, share.tag)))
            .into_iter()
            .cloned()
            .collect();
        let (gone, owned) = shares
            .into_iter()
            .partition(|share| lost.contains(&share.partition));
        self.lanes.refuse(gone, &Unpublished::NotOwner);
        owned
    }

    fn transact(
        &self,
        producer: &TransactionalProducer,
        shares: &[Share],
        consumer: &Consumer,
        membership: &Membership,
    ) -> Outcome {
        let parts: Vec<Part<'_>> = shares
            .iter()
            .filter_map(|share| {
                let last = share.items.last()?;
                let frames = share.items.iter().filter_map(|item| match &item.work {
                    Work::Frame(frame) => Some(frame),
                    Work::Recommit { .. } => None,
                });
                Some(Part {
                    partition: &share.partition,
                    frames: frames.collect(),
                    offset: last.work.offset(),
                    batch: last.work.batch(),
                })
            })
            .collect();
        transaction::run(producer, &parts, consumer, membership, &*self.observer)
    }

    fn settle(&mut self, shares: Vec<Share>, outcome: Outcome) {
        match outcome {
            Outcome::Committed => {
                self.aborted = 0;
                self.producers.pass();
                self.lanes.published(shares);
            }
            Outcome::Aborted(cause) => {
                self.producers.pass();
                self.settle_aborted(shares, cause);
            }
            Outcome::Unknown(reason) => {
                tracing::warn!(
                    reason,
                    "the outcome of a transaction is unknown; new producers are created"
                );
                self.producers.discard();
                self.lanes
                    .refuse(shares, &Unpublished::Uncertain { reason });
            }
        }
    }

    fn settle_aborted(&mut self, shares: Vec<Share>, cause: Cause) {
        let single = shares.len() == 1 && shares.iter().all(|share| share.items.len() == 1);
        match cause {
            Cause {
                by_message: true,
                topic,
                reason,
                ..
            } if single => {
                let batch = shares
                    .iter()
                    .flat_map(|share| &share.items)
                    .map(|item| item.work.batch())
                    .max();
                let why = Unpublished::Poison {
                    batch: batch.unwrap_or_default(),
                    topic: topic.unwrap_or_default(),
                    reason,
                };
                tracing::error!(partition = %shares[0].partition, "{why}");
                self.lanes.refuse(shares, &why);
            }
            Cause {
                by_message: true,
                topic,
                reason,
                ..
            } => {
                tracing::warn!(
                    topic,
                    reason,
                    "a transaction was aborted; its frames are published one per transaction, until the bad message is found"
                );
                self.lanes.put_back(shares, true, |_| Instant::now());
            }
            // This is no trouble and needs no backoff: publishing goes on with the new membership.
            Cause {
                outdated: true,
                reason,
                ..
            } => {
                tracing::info!(
                    reason,
                    "the group rebalanced during a transaction; its frames are published again"
                );
                self.lanes.put_back(shares, false, |_| Instant::now());
            }
            Cause {
                by_message: false,
                topic,
                reason,
                ..
            } => {
                self.aborted += 1;
                tracing::warn!(
                    topic,
                    reason,
                    times = self.aborted,
                    "a transaction was aborted; trying again with new producers"
                );
                self.producers.discard();
                self.lanes.put_back(shares, self.aborted >= 2, backoff);
            }
        }
    }
}

/// When to try again after so many failures in a row.
fn backoff(failures: u32) -> Instant {
    let ceiling = BACKOFF_FIRST
        .saturating_mul(1 << failures.min(10))
        .min(BACKOFF_LAST);
    Instant::now() + ceiling.mul_f64(rand::random_range(0.1..1.0))
}
