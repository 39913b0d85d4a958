//! One Kafka transaction: the records of some frames, and their offsets.
//!
//! In: frames in order per partition, and the group membership that was read before the tags were checked. Out: committed,
//! aborted (nothing is published, with the reason), or unknown.

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

/// Gets the counts and durations of publishing. Called on the publisher's thread: must not block.
pub trait PublishObserver: Send + Sync {
    /// Messages to a topic in a committed transaction.
    fn sent(&self, topic: &str, messages: u64) {
        let _ = (topic, messages);
    }

    /// Deliveries to a topic that failed.
    fn failed(&self, topic: &str, messages: u64) {
        let _ = (topic, messages);
    }

    /// The time from a transaction's first message handed over until its last delivery report, for each topic.
    fn send_duration(&self, topic: &str, duration: Duration) {
        let _ = (topic, duration);
    }

    /// A committed transaction, from its beginning.
    fn transaction(&self, messages: u64, duration: Duration) {
        let _ = (messages, duration);
    }

    /// The reason why the publisher is refused, or none if it can publish.
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

/// One partition's part.
pub(crate) struct Part<'a> {
    pub(crate) partition: &'a TopicPartition,
    /// In order.
    pub(crate) frames: Vec<&'a Arc<Frame>>,
    /// The group's new offset, and its batch.
    pub(crate) offset: Offset,
    pub(crate) batch: BatchNumber,
}

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Committed,
    /// Nothing is published.
    Aborted(Cause),
    /// It is unknown whether it is published; the producer is unusable.
    Unknown(String),
}

/// Why a transaction was aborted.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    /// The output topic, if one caused it.
    pub(crate) topic: Option<String>,
    /// Whether a message caused it and would fail again, whatever the infrastructure does.
    pub(crate) by_message: bool,
    /// Whether the membership of the offsets is outdated: the group has rebalanced.
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

/// What to do about a missing right to send a message. Unlike for other rights, the host doesn't retry by itself.
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

/// A transaction with only the offset of a published batch. It also ends offsets of the same producer that the group
/// coordinator still has as pending although their transaction is over, as happens after an outage of the coordinator.
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

/// Why a transaction can't continue.
enum Stop {
    Abort(Cause),
    Unknown(String),
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        match error.remedy {
            Remedy::Abort => Self::Abort(Cause::call(error)),
            // Retriable errors were already retried by the call.
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
    // A message that librdkafka refuses doesn't mark the transaction as failed: it would be committed without the message.
    failed.extend(refused);
    if let Some((topic, code)) = blame(&failed) {
        count_by_topic(&failed)
            .into_iter()
            .for_each(|(topic, count)| observer.failed(topic, count));
        let mut cause = Cause::delivery(topic, code);
        // The topic may have been created or recreated since librdkafka last read its metadata: new producers know it.
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

/// The failure to act on. One caused by a message comes first, then trouble, then consequences of other failures.
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

/// Whether the offsets' membership is outdated: the group has rebalanced meanwhile.
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

/// Whether a message or its topic caused it: another try would fail again.
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
