//! The publisher: transactional producers that take turns, on their own thread, for all partitions.
//!
//! A worker first gives the partition's watermark ([`Publisher::begin`]), then hands in frames. All waiting frames go into
//! one transaction. Every frame gets exactly one answer. After an answer that isn't `Ok`, the partition's later frames get
//! the same answer, until the worker begins again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::record::{Offset, TopicPartition};
use tokio::sync::{oneshot, watch};

use super::Settings;
use super::answer::Answer;
use super::consumer::Consumer;
use super::error::{Disposition, Error, Result};
use super::ids::transactional_ids;
use super::limits::Limits;
use super::ownership::Tag;
use super::publishing::{Order, Thread, Work};
use super::transaction::PublishObserver;
use super::turns::{PRODUCERS, Turns};
use crate::background::{Background, Duty};

/// The thread that publishes.
const PUBLISH: Duty = Duty {
    name: "kafka-publish",
    without: "nothing is published",
};

/// The handle of the publisher's thread.
#[derive(Debug)]
pub struct Publisher {
    orders: Sender<Order>,
    transactional_ids: Vec<String>,
    ready: Arc<AtomicBool>,
    ended: watch::Receiver<bool>,
}

impl Publisher {
    /// Starts the thread; it connects by itself and keeps trying. Nothing is published before [`Publisher::follow`].
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn start(
        settings: Settings,
        limits: Arc<Limits>,
        observer: Arc<dyn PublishObserver>,
        background: &Background,
    ) -> Result<Self> {
        let (orders, received) = channel();
        let ready = Arc::new(AtomicBool::new(false));
        let (end, ended) = watch::channel(false);
        // Without transactions there is nothing to wait for.
        let producers = match settings.at_least_once {
            true => 1,
            false => PRODUCERS,
        };
        let transactional_ids = transactional_ids(&settings.transactional_prefix, producers);
        let thread = Thread::new(
            settings,
            Turns::new(transactional_ids.iter().cloned()),
            limits,
            observer,
            received,
            Arc::clone(&ready),
        );
        let publishing = move || {
            thread.run();
            end.send_replace(true);
        };
        background.thread(PUBLISH, publishing).map_err(|error| {
            Error::new(
                "starting the publisher",
                Disposition::Fatal,
                error.to_string(),
            )
        })?;
        Ok(Self {
            orders,
            transactional_ids,
            ready,
            ended,
        })
    }

    /// Publishes under this consumer's membership of the group from now on.
    pub fn follow(&self, consumer: Arc<Consumer>) {
        self.order(Order::Follow(consumer));
    }

    /// The transactional ids that must be among a partition's owners before anything is published for it.
    pub fn transactional_ids(&self) -> &[String] {
        &self.transactional_ids
    }

    /// Whether all producers are connected and have their ids.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
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

    /// Hands in a partition's next frame. The caller limits how many wait.
    pub fn publish(
        &self,
        partition: &TopicPartition,
        tag: Tag,
        frame: Arc<Frame>,
    ) -> oneshot::Receiver<Answer> {
        self.work(partition, tag, Work::Frame(frame))
    }

    /// Commits the offset of a batch that is known to be published, as its watermark; the next frame is
    /// the one after it.
    pub fn recommit(
        &self,
        partition: &TopicPartition,
        tag: Tag,
        batch: BatchNumber,
        offset: Offset,
    ) -> oneshot::Receiver<Answer> {
        self.work(partition, tag, Work::Recommit { batch, offset })
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
        batch: BatchNumber,
        offset: Offset,
        former: Vec<String>,
    ) {
        self.order(Order::RecommitByAll {
            partition: partition.clone(),
            tag,
            work: Work::Recommit { batch, offset },
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

    /// If the thread has ended, the order is dropped and its answer with it: the receiver's error means
    /// [`Unpublished::Stopped`].
    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}
