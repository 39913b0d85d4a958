//! The ports to Kafka: [`Log`] is for a worker, to take over a partition and to read it; [`Transactions`] is for the publisher.
//!
//! ```text
//!   worker ──► Log ──────────────────────────► crate::kafka, or a broker in memory
//!     │ frames                                            ▲
//!     └────► Publisher ──► Lanes ──► transaction ──► Transactions
//! ```
//!
//! Nothing here calls librdkafka: the order of frames, whose turn it is, what an answer or an error means. `crate::kafka` implements the ports with librdkafka; the simulator in
//! `sim/` implements them with a broker in memory, and runs the rest unchanged.

mod answer;
mod error;
mod feed;
mod lanes;
mod ownership;
mod publisher;
mod publishing;
mod right;
mod transaction;
mod transactions;
mod turns;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use taskhost_core::record::{Offset, TopicPartition};
use taskhost_core::recovery::Log as Bounds;
use taskhost_core::watermark::Watermark;
use tokio::time::Instant;

pub use answer::{Answer, Unpublished};
pub use error::{Disposition, Error, Result};
pub use feed::{Fed, Feed, Feeder, Flow, feed};
pub use ownership::{Held, Ownership, Tag};
pub use publisher::Publisher;
pub use publishing::{PublisherSettings, Publishing};
pub use right::{GRANT_IT, MissingRight, Operation, Resource};
pub use transaction::PublishObserver;
pub use transactions::{
    Blame, Delivered, Group, GroupOffset, Producer, Stop, Transactions, Undelivered,
};
pub use turns::PRODUCERS;

/// A partition's log and the group's offset in it, for the worker that takes it over.
#[async_trait]
pub trait Log: Debug + Send + Sync {
    /// The topic's id and the bounds of a partition; none if there is no such topic.
    ///
    /// # Errors
    /// If the brokers don't answer in time.
    async fn bounds(&self, partition: &TopicPartition) -> Result<Option<Bounds>>;

    /// The offset that the group has committed for a partition.
    ///
    /// # Errors
    /// [`Disposition::Trouble`] also while a transaction that would change it is pending: ask again.
    async fn committed(&self, partition: &TopicPartition) -> Result<Watermark>;

    /// Ends what a former owner may have left open under a transactional id, and keeps it from opening more; once is enough
    /// for all partitions that were assigned before `since`.
    ///
    /// # Errors
    /// If the coordinator doesn't answer in time. The partition can't be taken over before it does.
    async fn fence(&self, former: &str, since: Instant) -> Result<()>;

    /// Begins to read a partition at an offset. False if the tag is no longer valid.
    ///
    /// # Errors
    /// If the client refuses it.
    fn add(&self, partition: &TopicPartition, offset: Offset, tag: Tag) -> Result<bool>;

    /// Stops reading a partition that stays assigned, and drops what is fed but not taken. False if the tag is no longer
    /// valid.
    ///
    /// # Errors
    /// If the client refuses it, or has ended.
    async fn remove(&self, partition: &TopicPartition, tag: Tag) -> Result<bool>;

    /// The partitions that this host owns now.
    fn ownership(&self) -> &Arc<Ownership>;
}
