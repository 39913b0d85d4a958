//! What all workers of a host share: the parts of the host that they use, one place for batches at a time, the bells of
//! waiting causes, the plugins of the routes, and the sample that is decided again.

mod gate;
mod lag;
mod plugins;
mod purity;
mod spans;
mod waker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use taskhost_core::batch::Deferral;
use taskhost_core::cause::Route;
use taskhost_core::halt::Halt;
use taskhost_core::record::TopicPartition;
use taskhost_core::recovery::Reset;

use crate::breakers::dependencies::Breakers;
use crate::breakers::routes::RouteBreakers;
use crate::deciders::Deciders;
use crate::kafka::Limits;
use crate::ledger::Ledger;
use crate::log::{Log, Publisher};
use crate::telemetry::health::Status;
use crate::telemetry::metrics::Metrics;

pub use gate::Gate;
pub use lag::{Places, watch as watch_lag};
pub(crate) use plugins::{Plugins, deciding};
pub(crate) use purity::Evidence;
pub use purity::{Impurity, Purity, PurityObserver};
pub(crate) use spans::{next_span, of_hint};
pub use waker::Waker;

/// What all workers of a host share.
#[derive(Debug)]
// Many fields: whatever a worker uses comes by this handle.
pub struct Shared {
    /// Postgres.
    pub ledger: Arc<dyn Ledger>,
    /// Kafka, to read from.
    pub log: Arc<dyn Log>,
    /// Kafka, to publish to.
    pub publisher: Publisher,
    /// The current plugin of each route.
    pub deciders: Arc<dyn Deciders>,
    /// Wakes waiting causes whose task changed.
    pub waker: Waker,
    /// Whether Postgres and Kafka are there.
    pub breakers: Arc<Breakers>,
    /// Whether each route's plugin fails too often.
    pub routes_breakers: Arc<RouteBreakers>,
    /// What health tells.
    pub health: Status,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the partitions at work are, for their lag.
    pub places: Places,
    /// Who is told of halts.
    pub observer: Arc<dyn HaltObserver>,
    /// Decides a sample of the batches again.
    pub purity: Arc<Purity>,
    /// How many batches are in hand at once.
    pub gate: Gate,
    /// What the configuration says.
    pub rules: Rules,
}

/// The bounds and names that workers go by.
#[derive(Debug, Clone)]
// Many fields: each is a setting that workers go by.
pub struct Rules {
    /// The consumer group.
    pub group: Arc<str>,
    /// All routes.
    pub routes: Arc<[Route]>,
    /// Real names of logical topics.
    pub topics: Arc<BTreeMap<String, String>>,
    /// What each topic takes.
    pub limits: Arc<Limits>,
    /// The ids that the next owner of a partition has to fence.
    pub transactional_ids: Vec<String>,
    /// Real name of the topic for task events.
    pub events_topic: Arc<str>,
    /// Dead letter topics by the real name of their source.
    pub dead_letter_topics: BTreeMap<String, String>,
    /// Where a group that has never been here starts.
    pub reset: Reset,
    /// Messages of a batch.
    pub messages_max: usize,
    /// Bytes of a batch; a single larger message is a batch of its own.
    pub bytes_max: usize,
    /// Committed batches that may wait for Kafka.
    pub unpublished_max: usize,
    /// Tries of a deadline after the first, before it counts.
    pub retries_max: u32,
    /// Base of the backoff.
    pub backoff: Duration,
    /// Whether dead letters carry Spring Kafka's headers too.
    pub spring_headers: bool,
    /// How long causes may wait.
    pub deferral: Deferral,
    /// How often a dead letter is decided again before it is parked.
    pub replays_max: u32,
}

/// Who is told when a partition halts and when it goes on. Must not block.
pub trait HaltObserver: std::fmt::Debug + Send + Sync {
    /// The partition stands still from now on.
    fn halted(&self, partition: &TopicPartition, halt: &Halt);

    /// A person's command resolved it; whether it goes on shows its recovery.
    fn resolved(&self, partition: &TopicPartition);
}
