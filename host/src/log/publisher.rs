//! The publisher: transactional producers that take turns, for all partitions.
//!
//! A worker first gives the partition's watermark ([`Publisher::begin`]), then hands in frames. All waiting frames go into
//! one transaction. Every frame gets exactly one answer. After an answer that isn't `Ok`, the partition's later frames get
//! the same answer, until the worker begins again.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::record::TopicPartition;
use taskhost_core::watermark::Mark;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::answer::Answer;
use super::ownership::Tag;
use super::publishing::{Order, PublisherSettings, Publishing, Work};
use super::transaction::PublishObserver;
use super::transactions::Transactions;

/// The workers' end of the publisher.
#[derive(Debug)]
pub struct Publisher {
    orders: mpsc::UnboundedSender<Order>,
    transactional_ids: Vec<String>,
    ended: watch::Receiver<bool>,
}

impl Publisher {
    /// Makes a publisher and what does its work, [`Publishing::run`], which connects by itself and keeps trying.
    pub fn new<T: Transactions>(
        settings: PublisherSettings,
        transactions: T,
        observer: Arc<dyn PublishObserver>,
    ) -> (Self, Publishing<T>) {
        let (orders, received) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(false);
        let publisher = Self {
            orders,
            transactional_ids: settings.transactional_ids.clone(),
            ended,
        };
        let publishing = Publishing::new(settings, transactions, observer, received, end);
        (publisher, publishing)
    }

    /// The transactional ids that must be among a partition's owners before anything is published for it.
    pub fn transactional_ids(&self) -> &[String] {
        &self.transactional_ids
    }

    /// Sets a partition's watermark: its next frame is the one after the watermark, or batch 0 without one. Waiting frames of
    /// an earlier `begin` are answered [`Unpublished::Uncertain`].
    pub fn begin(&self, partition: &TopicPartition, tag: Tag, watermark: Option<BatchNumber>) {
        let next = watermark.map_or(0, |batch| batch.saturating_add(1));
        self.order(Order::Begin {
            partition: partition.clone(),
            tag,
            next,
        });
    }

    /// Hands in a partition's next frame, with the token of the attempt that committed it, where that is known. The caller
    /// limits how many wait.
    pub fn publish(
        &self,
        partition: &TopicPartition,
        tag: Tag,
        frame: Arc<Frame>,
        token: Option<Uuid>,
    ) -> oneshot::Receiver<Answer> {
        self.work(partition, tag, Work::Frame(frame, token))
    }

    /// Commits the offset of a batch that is known to be published, as its watermark; the next frame is
    /// the one after it.
    pub fn recommit(
        &self,
        partition: &TopicPartition,
        tag: Tag,
        mark: Mark,
    ) -> oneshot::Receiver<Answer> {
        self.work(partition, tag, Work::Recommit(mark))
    }

    /// Removes a partition; its waiting frames are answered [`Unpublished::NotOwner`].
    pub fn end(&self, partition: &TopicPartition, tag: Tag) {
        self.order(Order::End {
            partition: partition.clone(),
            tag,
        });
    }

    /// Drops a partition's waiting frames. The answer comes once no open transaction contains any of its frames. From then on,
    /// its watermark in Kafka doesn't change until something is published again.
    pub fn withdraw(&self, partition: &TopicPartition, tag: Tag) -> oneshot::Receiver<()> {
        let (reply, withdrawn) = oneshot::channel();
        self.order(Order::Withdraw {
            partition: partition.clone(),
            tag,
            reply,
        });
        withdrawn
    }

    /// Kafka was away and is back: frames that wait for a backoff are tried now.
    pub fn hurry(&self) {
        self.order(Order::Hurry);
    }

    /// The brokers were away and are back: existing producers may wait for brokers that are gone, so new ones are created.
    pub fn renew(&self) {
        self.order(Order::Renew);
    }

    /// Commits the offset of a published batch once more, under every transactional id: those of this process, and those of
    /// `former` owners, which must have been fenced. That ends offsets that are pending at the coordinator.
    pub fn recommit_by_all(
        &self,
        partition: &TopicPartition,
        tag: Tag,
        mark: Mark,
        former: Vec<String>,
    ) {
        self.order(Order::RecommitByAll {
            partition: partition.clone(),
            tag,
            mark,
            former,
        });
    }

    /// Publishes the waiting frames, then ends. False if that took longer than `deadline`.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.order(Order::Stop {
            deadline: Instant::now() + deadline,
        });
        let mut ended = self.ended.clone();
        tokio::time::timeout(deadline, ended.wait_for(|ended| *ended))
            .await
            .is_ok()
    }

    fn work(&self, partition: &TopicPartition, tag: Tag, work: Work) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Publish {
            partition: partition.clone(),
            tag,
            work,
            reply,
        });
        answer
    }

    /// If the publisher has ended, the order is dropped and its answer with it: the receiver's error means
    /// [`Unpublished::Stopped`].
    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}
