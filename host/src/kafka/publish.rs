//! The publisher's port, with librdkafka: its producers, and the group as the consumer is a member of it.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as Position, TopicPartitionList};
use taskhost_core::record::Record;

use super::Settings;
use super::consumer::Consumer;
use super::ffi::group::Membership;
use super::ffi::native::{CallError, Remedy};
use super::ids::transactional_ids;
use super::limits::Limits;
use super::producer::TransactionalProducer;
use crate::background::{Background, Duty};
use crate::log::MissingRight;
use crate::log::{
    Blame, Delivered, Group, GroupOffset, Ownership, PRODUCERS, Producer, PublishObserver,
    Publisher, PublisherSettings, Stop, Transactions, Undelivered,
};
use crate::log::{Disposition, Error, Result};

/// The thread that publishes.
const PUBLISH: Duty = Duty {
    name: "kafka-publish",
    without: "nothing is published",
};

/// How long taking the transactional id may take before the next try.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// What to do about a missing right to send a message. Unlike for other rights, the host doesn't retry by itself.
const GRANT: &str = "grant it to this host's user (docs/kafka-security.md has the commands)";

/// Under whose membership of the group is published, once the consumer has started.
#[derive(Debug, Clone, Default)]
pub struct Following(Arc<OnceLock<Arc<Consumer>>>);

impl Following {
    /// Publishes under this consumer's membership from now on. Nothing is published before.
    pub fn follow(&self, consumer: Arc<Consumer>) {
        // There is one consumer for each publisher.
        let _ = self.0.set(consumer);
    }
}

/// Starts the publisher on a thread of its own; it connects by itself and keeps trying.
///
/// # Errors
/// If the thread can't be started.
pub fn publisher(
    settings: Settings,
    limits: Arc<Limits>,
    observer: Arc<dyn PublishObserver>,
    background: &Background,
) -> Result<(Publisher, Following)> {
    let failed = |error: std::io::Error| {
        let doing = "starting the publisher";
        Error::new(doing, Disposition::Fatal, error.to_string())
    };
    // Without transactions there is nothing to wait for.
    let producers = match settings.at_least_once {
        true => 1,
        false => PRODUCERS,
    };
    let rules = PublisherSettings {
        transactional_ids: transactional_ids(&settings.transactional_prefix, producers),
        transaction_bytes_max: settings.transaction_bytes_max,
        transactional_prefix: settings.transactional_prefix.clone(),
    };
    let following = Following::default();
    let producers = Producers {
        settings,
        limits,
        following: following.clone(),
    };
    let (publisher, publishing) = Publisher::new(rules, producers, observer);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.map_err(failed)?;
    let run = move || runtime.block_on(publishing.run());
    background.thread(PUBLISH, run).map_err(failed)?;
    Ok((publisher, following))
}

/// librdkafka's producers.
struct Producers {
    settings: Settings,
    limits: Arc<Limits>,
    following: Following,
}

impl Transactions for Producers {
    type Producer = TransactionalProducer;
    type Group = Consumer;

    async fn connect(&self, ids: &[String]) -> Vec<Result<TransactionalProducer>> {
        let (settings, smallest) = (&self.settings, self.limits.smallest());
        let connect =
            |id: &str| TransactionalProducer::connect(settings, id, smallest, CONNECT_PATIENCE);
        thread::scope(|scope| {
            let threads = ids.iter().map(|id| scope.spawn(|| connect(id)));
            let threads: Vec<_> = threads.collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(connected) => connected,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        })
    }

    fn group(&self) -> Option<Arc<Consumer>> {
        self.following.0.get().cloned()
    }

    fn is_at_least_once(&self) -> bool {
        self.settings.at_least_once
    }
}

impl Group for Consumer {
    type Membership = Membership;

    fn membership(&self) -> Option<Membership> {
        self.membership()
    }

    fn generation(membership: &Membership) -> (String, i32) {
        (membership.member(), membership.generation())
    }

    fn ownership(&self) -> &Arc<Ownership> {
        self.ownership()
    }
}

/// librdkafka's calls block: nobody else runs on the publisher's thread.
impl Producer for TransactionalProducer {
    type Group = Consumer;

    async fn begin(&self) -> std::result::Result<(), Stop> {
        Ok(self.begin()?)
    }

    fn produce(&self, record: &Record) -> std::result::Result<(), Undelivered> {
        self.produce(record)
            .map_err(|code| undelivered(record.topic.clone(), code))
    }

    async fn drain(&self) -> Delivered {
        let drained = self.drain();
        let failed = drained.failed.into_iter();
        Delivered {
            sent: drained.sent,
            failed: failed
                .map(|(topic, code)| undelivered(topic, code))
                .collect(),
        }
    }

    async fn send_offsets(
        &self,
        offsets: &[GroupOffset<'_>],
        consumer: &Consumer,
        membership: &Membership,
    ) -> std::result::Result<(), Stop> {
        let list = list(offsets).map_err(Stop::Unknown)?;
        Ok(self.send_offsets(&list, consumer, membership)?)
    }

    async fn commit(&self) -> std::result::Result<(), Stop> {
        Ok(self.commit()?)
    }

    async fn abort(&self) -> std::result::Result<(), Stop> {
        Ok(self.abort()?)
    }

    async fn is_missing(&self, topic: &str) -> bool {
        self.is_missing(topic)
    }

    fn has_lost_brokers(&self) -> bool {
        self.has_lost_brokers()
    }

    fn serve(&self) {
        self.serve();
    }
}

fn list(offsets: &[GroupOffset<'_>]) -> std::result::Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for one in offsets {
        let name = one.partition;
        list.add_partition_offset(
            &name.topic,
            name.partition,
            Position::Offset(one.mark.offset),
        )
        .map_err(|error| error.to_string())?;
        list.find_partition(&name.topic, name.partition)
            .ok_or("a partition is missing in its own list")?
            .set_metadata(one.mark.metadata());
    }
    Ok(list)
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        match error.remedy {
            Remedy::Abort => Self::Abort {
                outdated: is_outdated(error.code),
                reason: error.reason,
            },
            // Retriable errors were already retried by the call.
            Remedy::Again | Remedy::Rebuild => {
                Self::Unknown(format!("{}: {}", error.code, error.reason))
            }
        }
    }
}

fn undelivered(topic: String, code: RDKafkaErrorCode) -> Undelivered {
    let reason = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            format!("{}; {GRANT}", MissingRight::write(&topic))
        }
        code => code.to_string(),
    };
    Undelivered {
        topic,
        blame: blame(code),
        reason,
    }
}

/// Whether the offsets' membership is outdated: the group has rebalanced meanwhile.
fn is_outdated(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::IllegalGeneration | C::UnknownMemberId | C::StaleMemberEpoch
    )
}

/// What is to blame for a failed delivery.
fn blame(code: RDKafkaErrorCode) -> Blame {
    use RDKafkaErrorCode as C;
    match code {
        C::MessageSizeTooLarge
        | C::InvalidMessage
        | C::InvalidMessageSize
        | C::MessageBatchTooLarge
        | C::InvalidRecord
        | C::InvalidTimestamp
        | C::InvalidArgument
        | C::BadMessage
        | C::InvalidTopic
        | C::TopicAuthorizationFailed
        | C::PolicyViolation
        | C::UnsupportedForMessageFormat
        | C::InvalidPartitions => Blame::Message,
        C::UnknownTopic | C::UnknownPartition | C::UnknownTopicOrPartition => Blame::UnknownTopic,
        C::PurgeQueue | C::PurgeInflight => Blame::Others,
        _ => Blame::Trouble,
    }
}
