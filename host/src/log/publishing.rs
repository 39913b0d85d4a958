//! The publisher at work: takes orders, runs transactions, and handles their results.
//!
//! The order of each transaction is: read the group membership, check the tags under the revoke lock, run the transaction.
//! If a partition is lost after the check, the membership's generation is old, and the broker refuses the transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use taskhost_core::frame::BatchNumber;
use taskhost_core::record::TopicPartition;
use taskhost_core::watermark::Mark;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Unpublished};
use super::error::{Disposition, Error};
pub(crate) use super::lanes::Work;
use super::lanes::{Item, Lanes, Share};
use super::ownership::Tag;
use super::right::{GRANT_IT, MissingRight};
use super::transaction::{self, Cause, Outcome, Part, PublishObserver};
use super::transactions::{Group, Transactions};
use super::turns::Turns;
use crate::chance;

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

/// What the publisher goes by.
#[derive(Debug, Clone)]
pub struct PublisherSettings {
    /// The ids of its producers, which take turns.
    pub transactional_ids: Vec<String>,
    /// Bytes of messages in one transaction, beyond which the next one takes what is left.
    pub transaction_bytes_max: usize,
    /// What transactional ids begin with, for the reason that is told when one is refused.
    pub transactional_prefix: String,
}

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
    Hurry,
    Renew,
    RecommitByAll {
        partition: TopicPartition,
        tag: Tag,
        mark: Mark,
        former: Vec<String>,
    },
    Stop {
        deadline: Instant,
    },
}

/// Does the publisher's work.
// Many fields: one thread has the whole state of the publisher.
pub struct Publishing<T: Transactions> {
    settings: PublisherSettings,
    transactions: T,
    observer: Arc<dyn PublishObserver>,
    orders: mpsc::UnboundedReceiver<Order>,
    ended: watch::Sender<bool>,
    lanes: Lanes,
    producers: Turns<T::Producer>,
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
    hanging: BTreeMap<TopicPartition, (Tag, Mark, Vec<String>)>,
}

type Membership<T> = <<T as Transactions>::Group as Group>::Membership;

impl<T: Transactions> Publishing<T> {
    pub(crate) fn new(
        settings: PublisherSettings,
        transactions: T,
        observer: Arc<dyn PublishObserver>,
        orders: mpsc::UnboundedReceiver<Order>,
        ended: watch::Sender<bool>,
    ) -> Self {
        Self {
            producers: Turns::new(settings.transactional_ids.iter().cloned()),
            settings,
            transactions,
            observer,
            orders,
            ended,
            lanes: Lanes::default(),
            disconnected: (0, None),
            aborted: 0,
            outdated: None,
            stop_by: None,
            withdrawn: Vec::new(),
            hanging: BTreeMap::new(),
        }
    }

    /// Until it is told to stop. Calls of the producers may block, so it has a thread of its own.
    pub async fn run(mut self) {
        self.connect().await;
        while !self.is_over() {
            self.take_orders().await;
            if self.producers.has_lost_brokers() {
                tracing::info!("the producers had lost all brokers; new ones are created");
                self.producers.discard();
            }
            self.connect().await;
            if self.producers.is_complete() {
                // No transaction is open here: the last one ended, or taking the ids aborted it.
                for reply in self.withdrawn.drain(..) {
                    let _ = reply.send(());
                }
                self.producers.serve();
                self.recommit_by_all().await;
                self.publish().await;
            }
        }
        self.lanes.refuse_all(&Unpublished::Stopped);
        self.ended.send_replace(true);
    }

    fn is_over(&self) -> bool {
        self.stop_by
            .is_some_and(|deadline| self.lanes.is_empty() || deadline <= Instant::now())
    }

    /// Waits for orders until there is something to do.
    async fn take_orders(&mut self) {
        let now = Instant::now();
        let due = match (self.lanes.due(now), self.producers.is_complete()) {
            (Some(due), true) => due.min(now + IDLE),
            (_, false) => self.disconnected.1.unwrap_or(now).min(now + IDLE),
            (None, true) => now + IDLE,
        };
        match timeout_at(due, self.orders.recv()).await {
            Ok(Some(order)) => self.obey(order),
            // Nobody waits for an answer any more.
            Ok(None) => self.stop_by = Some(now),
            Err(_) => {}
        }
        while let Ok(order) = self.orders.try_recv() {
            self.obey(order);
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
            Order::Hurry => {
                self.lanes.hurry();
                self.disconnected.1 = None;
            }
            Order::Renew => self.producers.discard(),
            Order::RecommitByAll {
                partition,
                tag,
                mark,
                former,
            } => {
                self.hanging.insert(partition, (tag, mark, former));
            }
            Order::Stop { deadline } => self.stop_by = Some(deadline),
        }
    }

    async fn connect(&mut self) {
        let (failures, not_before) = self.disconnected;
        if self.producers.is_complete() || not_before.is_some_and(|time| time > Instant::now()) {
            return;
        }
        match self.producers.connect(&self.transactions).await {
            Ok(()) => {
                tracing::info!("the publisher is connected");
                self.observer.refused(None);
                self.disconnected = (0, None);
            }
            Err(error) => {
                self.tell_refused(&error);
                self.disconnected = (failures + 1, Some(backoff(failures + 1)));
            }
        }
    }

    fn tell_refused(&self, error: &Error) {
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
    }

    /// Ends pending offsets. The worker that asked looks again, and asks again if they are still pending.
    async fn recommit_by_all(&mut self) {
        let hanging = std::mem::take(&mut self.hanging);
        // Without transactions no offsets are pending.
        let group = self.transactions.group();
        let Some(group) = group.filter(|_| !self.transactions.is_at_least_once()) else {
            return;
        };
        for (partition, (tag, mark, former)) in hanging {
            // First the membership, then the tag, as for every publication: the partition may have another owner by now.
            let Some(membership) = self.membership(&group) else {
                return;
            };
            if !group.ownership().holds(&partition, tag) {
                continue;
            }
            let part = Part {
                partition: &partition,
                frames: Vec::new(),
                mark,
            };
            match self.recommit(&part, &former, &group, &membership).await {
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

    /// Commits an offset by each producer, and by one under each former owner's id.
    async fn recommit(
        &self,
        part: &Part<'_>,
        former: &[String],
        group: &T::Group,
        membership: &Membership<T>,
    ) -> Result<(), String> {
        let mut of_former = Vec::with_capacity(former.len());
        for connected in self.transactions.connect(former).await {
            of_former.push(connected.map_err(|error| error.to_string())?);
        }
        for producer in self.producers.connected().chain(&of_former) {
            match transaction::recommit(producer, part, group, membership).await {
                Outcome::Committed => {}
                Outcome::Aborted(Cause { reason, .. }) | Outcome::Unknown(reason) => {
                    return Err(reason);
                }
            }
        }
        Ok(())
    }

    /// Runs the next transaction, if there is one.
    async fn publish(&mut self) {
        let Some(group) = self.transactions.group() else {
            return;
        };
        let shares = self
            .lanes
            .take(Instant::now(), self.settings.transaction_bytes_max);
        if shares.is_empty() {
            return;
        }
        // First the membership, then the tags: if a partition is lost after this, the generation has changed.
        let membership = self.membership(&group);
        let shares = self.owned(&group, shares);
        if shares.is_empty() {
            return;
        }
        let (Some(membership), Some(producer)) = (membership, self.producers.current()) else {
            tracing::debug!("this host is not a member of the group now; publishing waits");
            self.lanes
                .put_back(shares, false, |_| Instant::now() + MEMBER_PAUSE);
            return;
        };
        let parts = parts(&shares);
        let observer = &*self.observer;
        let outcome = transaction::run(producer, &parts, &group, &membership, observer).await;
        drop(parts);
        if matches!(&outcome, Outcome::Aborted(cause) if cause.outdated) {
            let (member, generation) = T::Group::generation(&membership);
            let until = Instant::now() + OUTDATED_PATIENCE;
            self.outdated = Some((member, generation, until));
        }
        self.settle(shares, outcome);
    }

    /// The present membership, unless it is known to be outdated.
    fn membership(&mut self, group: &T::Group) -> Option<Membership<T>> {
        let membership = group.membership()?;
        let outdated = self
            .outdated
            .as_ref()
            .is_some_and(|(member, generation, until)| {
                let present = T::Group::generation(&membership);
                present == (member.clone(), *generation) && *until > Instant::now()
            });
        if !outdated {
            self.outdated = None;
        }
        (!outdated).then_some(membership)
    }

    /// The shares of partitions that are still owned; the others get their answer.
    fn owned(&mut self, group: &T::Group, shares: Vec<Share>) -> Vec<Share> {
        let lost: Vec<TopicPartition> = group
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

/// The parts of a transaction.
fn parts(shares: &[Share]) -> Vec<Part<'_>> {
    shares.iter().filter_map(part).collect()
}

fn part(share: &Share) -> Option<Part<'_>> {
    let last = share.items.last()?;
    let frames = share.items.iter().filter_map(|item| match &item.work {
        Work::Frame(frame, _) => Some(frame),
        Work::Recommit(_) => None,
    });
    Some(Part {
        partition: &share.partition,
        frames: frames.collect(),
        mark: last.work.mark(),
    })
}

/// When to try again after so many failures in a row.
fn backoff(failures: u32) -> Instant {
    let ceiling = BACKOFF_FIRST
        .saturating_mul(1 << failures.min(10))
        .min(BACKOFF_LAST);
    Instant::now() + ceiling.mul_f64(0.1 + 0.9 * chance::share())
}
