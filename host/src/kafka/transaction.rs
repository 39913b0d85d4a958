//! One Kafka transaction: the records of whatever frames go together, and the offsets they belong to.
//!
//! Comes in: frames in order per partition, and the group membership that was taken before the tags were
//! checked. Goes out: committed, aborted (nothing is published, and why), or unknown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as Position, TopicPartitionList};
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::record::{Offset, TopicPartition};

use super::committed;
use super::consumer::Consumer;
use super::group::Membership;
use super::native::{CallError, Remedy};
use super::producer::TransactionalProducer;
use super::reporting::Delivered;
use super::rights::MissingRight;
use crate::failpoint;
use crate::mutant::{self, Mutant};

/// Who counts what is published. Called on the publisher's thread: must not block.
pub trait PublishObserver: Send + Sync {
    /// Messages to a topic in a transaction that is committed.
    fn sent(&self, topic: &str, messages: u64) {
        let _ = (topic, messages);
    }

    /// Deliveries to a topic that failed.
    fn failed(&self, topic: &str, messages: u64) {
        let _ = (topic, messages);
    }

    /// From the first message of a transaction handed over to the last delivery report, for each topic.
    fn send_duration(&self, topic: &str, duration: Duration) {
        let _ = (topic, duration);
    }

    /// A committed transaction, from its beginning.
    fn transaction(&self, messages: u64, duration: Duration) {
        let _ = (messages, duration);
    }

    /// Whether the publisher has what it needs to publish, or why it doesn't.
    fn refused(&self, reason: Option<&str>) {
        let _ = reason;
    }

    /// A transaction was aborted, or its end is unknown.
    fn aborted(&self, reason: &str) {
        let _ = reason;
    }
}

/// Counts nothing.
impl PublishObserver for () {}

/// What one partition contributes.
pub(crate) struct Part<'a> {
    pub(crate) partition: &'a TopicPartition,
    /// In order.
    pub(crate) frames: Vec<&'a Arc<Frame>>,
    /// What the group's offset becomes, and the batch that it belongs to.
    pub(crate) offset: Offset,
    pub(crate) batch: BatchNumber,
}

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Committed,
    /// Nothing is published.
    Aborted(Cause),
    /// Nobody knows whether it is published; the producer is beyond use.
    Unknown(String),
}

/// Why a transaction was aborted.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    /// The output topic, where one is to blame.
    pub(crate) topic: Option<String>,
    /// Whether the same message would fail again, whatever the infrastructure does.
    pub(crate) by_message: bool,
    /// Whether the group has moved on from the membership that the offsets were sent under.
    pub(crate) outdated: bool,
    pub(crate) reason: String,
}

impl Cause {
    fn delivery(topic: &str, code: RDKafkaErrorCode) -> Self {
        let reason = match code {
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                format!("{}; {GRANT}", MissingRight::write(topic))
            }
            code => code.to_string(),
        };
        Self {
            topic: Some(topic.to_owned()),
            by_message: blames_message(code),
            outdated: false,
            reason,
        }
    }

    fn call(error: CallError) -> Self {
        Self {
            topic: None,
            by_message: false,
            outdated: is_outdated(error.code),
            reason: error.reason,
        }
    }
}

/// What to do about a right that a message lacks: unlike the host's other rights, nobody tries it again meanwhile.
const GRANT: &str = "grant it to this host's user (docs/kafka-security.md has the commands)";

/// Runs a transaction to its end.
pub(crate) fn run(
    producer: &TransactionalProducer,
    parts: &[Part<'_>],
    consumer: &Consumer,
    membership: &Membership,
    observer: &dyn PublishObserver,
) -> Outcome {
    let begun = Instant::now();
    let outcome = match publish(producer, parts, consumer, membership, observer) {
        Ok(sent) => {
            let messages = sent.values().sum();
            sent.iter()
                .for_each(|(topic, count)| observer.sent(topic, *count));
            observer.transaction(messages, begun.elapsed());
            return Outcome::Committed;
        }
        Err(Stop::Abort(cause)) => match producer.abort() {
            Ok(()) => Outcome::Aborted(cause),
            Err(error) => Outcome::Unknown(format!(
                "{}; then aborting failed: {}",
                cause.reason, error.reason
            )),
        },
        Err(Stop::Unknown(reason)) => Outcome::Unknown(reason),
    };
    match &outcome {
        Outcome::Aborted(cause) => observer.aborted(&cause.reason),
        Outcome::Unknown(reason) => observer.aborted(reason),
        Outcome::Committed => {}
    }
    outcome
}

/// A transaction with the offset of a batch that is published, and nothing else. Its end is also the end of what the group's
/// coordinator still holds for pending of the same producer, although its transaction is over: so it was after outages of the
/// coordinator's own.
pub(crate) fn recommit(
    producer: &TransactionalProducer,
    part: &Part<'_>,
    consumer: &Consumer,
    membership: &Membership,
) -> Outcome {
    run(
        producer,
        std::slice::from_ref(part),
        consumer,
        membership,
        &(),
    )
}

/// Why a transaction doesn't go on.
enum Stop {
    Abort(Cause),
    Unknown(String),
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        match error.remedy {
            Remedy::Abort => Self::Abort(Cause::call(error)),
            // What is retriable has been retried where it was called.
            Remedy::Again | Remedy::Rebuild => {
                Self::Unknown(format!("{}: {}", error.code, error.reason))
            }
        }
    }
}

fn publish(
    producer: &TransactionalProducer,
    parts: &[Part<'_>],
    consumer: &Consumer,
    membership: &Membership,
    observer: &dyn PublishObserver,
) -> Result<HashMap<String, u64>, Stop> {
    let offsets = offsets(parts).map_err(Stop::Unknown)?;
    producer.begin()?;
    let sent = send(producer, parts, observer)?;
    failpoint::hit("publish-inside-transaction");
    if sent.is_empty() || !mutant::is_armed(Mutant::Offsets) {
        producer.send_offsets(&offsets, consumer, membership)?;
    }
    failpoint::hit("publish-before-commit");
    producer.commit()?;
    failpoint::hit("publish-after-commit");
    Ok(sent)
}

/// Sends every record and waits for every report.
fn send(
    producer: &TransactionalProducer,
    parts: &[Part<'_>],
    observer: &dyn PublishObserver,
) -> Result<HashMap<String, u64>, Stop> {
    let started = Instant::now();
    let refused = parts
        .iter()
        .flat_map(|part| &part.frames)
        .flat_map(|frame| &frame.records)
        .find_map(|record| {
            producer
                .produce(record)
                .err()
                .map(|code| (record.topic.clone(), code))
        });
    let Delivered { sent, mut failed } = producer.drain();
    // A message that librdkafka refuses doesn't mark the transaction: it would be committed without it.
    failed.extend(refused);
    if let Some((topic, code)) = blame(&failed) {
        count_by_topic(&failed)
            .into_iter()
            .for_each(|(topic, count)| observer.failed(topic, count));
        let mut cause = Cause::delivery(topic, code);
        // It may have been made, or made again, since librdkafka heard of it last: new producers know it.
        if is_unknown(code) && !producer.is_missing(topic) {
            cause.by_message = false;
        }
        return Err(Stop::Abort(cause));
    }
    let expected: u64 = parts
        .iter()
        .flat_map(|part| &part.frames)
        .map(|frame| frame.records.len() as u64)
        .sum();
    let reported: u64 = sent.values().sum();
    if reported != expected {
        return Err(Stop::Unknown(format!(
            "{reported} delivery reports for {expected} records"
        )));
    }
    sent.keys()
        .for_each(|topic| observer.send_duration(topic, started.elapsed()));
    Ok(sent)
}

fn offsets(parts: &[Part<'_>]) -> Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::with_capacity(parts.len());
    for part in parts {
        let name = part.partition;
        list.add_partition_offset(&name.topic, name.partition, Position::Offset(part.offset))
            .map_err(|error| error.to_string())?;
        list.find_partition(&name.topic, name.partition)
            .ok_or("a partition is missing in its own list")?
            .set_metadata(committed::metadata(part.batch));
    }
    Ok(list)
}

/// The failure to act on: one that a message caused, before trouble, before what a failure took along.
fn blame(failed: &[(String, RDKafkaErrorCode)]) -> Option<(&str, RDKafkaErrorCode)> {
    let rank = |code: RDKafkaErrorCode| match code {
        code if blames_message(code) => 0,
        RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => 2,
        _ => 1,
    };
    failed
        .iter()
        .min_by_key(|(_, code)| rank(*code))
        .map(|(topic, code)| (topic.as_str(), *code))
}

fn count_by_topic(failed: &[(String, RDKafkaErrorCode)]) -> HashMap<&str, u64> {
    let mut counts = HashMap::new();
    failed
        .iter()
        .for_each(|(topic, _)| *counts.entry(topic.as_str()).or_default() += 1);
    counts
}

/// Whether the offsets' membership is not the present one: the group has rebalanced meanwhile.
fn is_outdated(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::IllegalGeneration | C::UnknownMemberId | C::StaleMemberEpoch
    )
}

/// Whether there was no such topic or partition.
fn is_unknown(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::UnknownTopic | C::UnknownPartition | C::UnknownTopicOrPartition
    )
}

/// Whether a message or its topic is to blame: the same again would fail again.
fn blames_message(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    let blames = matches!(
        code,
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
            | C::InvalidPartitions
    );
    blames || is_unknown(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_blamed_before_what_failed_along_with_it() {
        let failed = [
            ("a".to_owned(), RDKafkaErrorCode::PurgeQueue),
            ("b".to_owned(), RDKafkaErrorCode::MessageTimedOut),
            ("c".to_owned(), RDKafkaErrorCode::MessageSizeTooLarge),
        ];
        let (topic, code) = blame(&failed).expect("something failed");
        assert_eq!(
            (topic, Cause::delivery(topic, code).by_message),
            ("c", true)
        );
        let (topic, code) = blame(&failed[..2]).expect("something failed");
        assert_eq!(
            (topic, Cause::delivery(topic, code).by_message),
            ("b", false)
        );
    }

    #[test]
    fn nothing_failed_blames_nobody() {
        assert!(blame(&[]).is_none());
    }
}
