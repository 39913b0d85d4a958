//! The publisher's port: transactional producers, and the group whose offsets their transactions carry.

use std::collections::HashMap;
use std::sync::Arc;

use taskhost_core::record::{Record, TopicPartition};
use taskhost_core::watermark::Mark;

use super::error::Result;
use super::ownership::Ownership;

/// Where producers come from.
pub trait Transactions: Send + 'static {
    /// One producer under its transactional id.
    type Producer: Producer<Group = Self::Group>;
    /// The group under whose membership offsets are sent.
    type Group: Group;

    /// Connects producers under these ids, and ends what is open under them. In the order of the ids.
    fn connect(&self, ids: &[String]) -> impl Future<Output = Vec<Result<Self::Producer>>>;

    /// The group; none until this host's consumer has started.
    fn group(&self) -> Option<Arc<Self::Group>>;

    /// Whether there are no transactions: each message is published at least once.
    fn is_at_least_once(&self) -> bool {
        false
    }
}

/// A consumer group, as its member sees it.
pub trait Group {
    /// A membership at one moment.
    type Membership;

    /// The present membership; none while this host is no member.
    fn membership(&self) -> Option<Self::Membership>;

    /// The id of the member, and the generation of the group.
    fn generation(membership: &Self::Membership) -> (String, i32);

    /// The partitions that this host owns now.
    fn ownership(&self) -> &Arc<Ownership>;
}

/// A transactional producer. Its calls are made one after another.
pub trait Producer {
    /// The group under whose membership offsets are sent.
    type Group: Group;

    /// Begins a transaction.
    fn begin(&self) -> impl Future<Output = std::result::Result<(), Stop>>;

    /// Queues a record. It may be sent later.
    fn produce(&self, record: &Record) -> std::result::Result<(), Undelivered>;

    /// Waits until every record is delivered or has failed.
    fn drain(&self) -> impl Future<Output = Delivered>;

    /// Makes the offsets part of the transaction.
    fn send_offsets(
        &self,
        offsets: &[GroupOffset<'_>],
        group: &Self::Group,
        membership: &<Self::Group as Group>::Membership,
    ) -> impl Future<Output = std::result::Result<(), Stop>>;

    /// Commits the transaction.
    fn commit(&self) -> impl Future<Output = std::result::Result<(), Stop>>;

    /// Aborts the transaction. After an error its end is unknown.
    fn abort(&self) -> impl Future<Output = std::result::Result<(), Stop>>;

    /// Whether the brokers say now that there is no such topic.
    fn is_missing(&self, topic: &str) -> impl Future<Output = bool>;

    /// Whether it has been without any broker for a while.
    fn has_lost_brokers(&self) -> bool {
        false
    }

    /// Handles the client's pending events, such as log lines. Doesn't wait.
    fn serve(&self) {}
}

/// The group's offset in a partition once a transaction is committed.
#[derive(Debug, Clone, Copy)]
pub struct GroupOffset<'a> {
    /// Which partition.
    pub partition: &'a TopicPartition,
    /// Which offset, and the batch that is published then: the watermark.
    pub mark: Mark,
}

/// Which records of a transaction were delivered.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Messages the broker has, by topic.
    pub sent: HashMap<String, u64>,
    /// Messages that failed.
    pub failed: Vec<Undelivered>,
}

/// A message that was not delivered.
#[derive(Debug, Clone)]
pub struct Undelivered {
    /// Its topic.
    pub topic: String,
    /// What is to blame.
    pub blame: Blame,
    /// The broker's or the client's own words.
    pub reason: String,
}

/// What is to blame for a message that was not delivered. In a transaction with several, the first in this order explains the
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blame {
    /// The message or its topic: another try would fail again.
    Message,
    /// There is no such topic, as far as the client knows.
    UnknownTopic,
    /// The infrastructure.
    Trouble,
    /// The failure of others in the same transaction.
    Others,
}

/// Why a transaction can't go on.
#[derive(Debug, Clone)]
pub enum Stop {
    /// Abort it and begin again.
    Abort {
        /// Whether the membership is outdated: the group has rebalanced meanwhile.
        outdated: bool,
        /// The broker's or the client's own words.
        reason: String,
    },
    /// Its outcome is unknown, and the producer unusable.
    Unknown(String),
}
