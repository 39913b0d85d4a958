//! One Kafka transaction: the records of some frames, and their offsets.
//!
//! In: frames in order per partition, and the group membership that was read before the tags were checked. Out: committed,
//! aborted (nothing is published, with the reason), or unknown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use taskhost_core::frame::Frame;
use taskhost_core::record::TopicPartition;
use taskhost_core::watermark::Mark;
use tokio::time::Instant;

use super::transactions::{Blame, Delivered, Group, GroupOffset, Producer, Stop, Undelivered};
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
    /// The group's new offset.
    pub(crate) mark: Mark,
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
    fn delivery(failed: &Undelivered) -> Self {
        Self {
            topic: Some(failed.topic.clone()),
            by_message: matches!(failed.blame, Blame::Message | Blame::UnknownTopic),
            outdated: false,
            reason: failed.reason.clone(),
        }
    }
}

/// Runs a transaction to its end.
pub(crate) async fn run<P: Producer>(
    producer: &P,
    parts: &[Part<'_>],
    group: &P::Group,
    membership: &<P::Group as Group>::Membership,
    observer: &dyn PublishObserver,
) -> Outcome {
    let begun = Instant::now();
    let outcome = match publish(producer, parts, group, membership, observer).await {
        Ok(sent) => {
            let messages = sent.values().sum();
            sent.iter()
                .for_each(|(topic, count)| observer.sent(topic, *count));
            observer.transaction(messages, begun.elapsed());
            return Outcome::Committed;
        }
        Err(Failed::Abort(cause)) => match producer.abort().await {
            Ok(()) => Outcome::Aborted(cause),
            Err(Stop::Abort { reason, .. } | Stop::Unknown(reason)) => {
                let first = cause.reason;
                Outcome::Unknown(format!("{first}; then aborting failed: {reason}"))
            }
        },
        Err(Failed::Unknown(reason)) => Outcome::Unknown(reason),
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
pub(crate) async fn recommit<P: Producer>(
    producer: &P,
    part: &Part<'_>,
    group: &P::Group,
    membership: &<P::Group as Group>::Membership,
) -> Outcome {
    let parts = std::slice::from_ref(part);
    run(producer, parts, group, membership, &()).await
}

/// Why a transaction was not committed.
enum Failed {
    Abort(Cause),
    Unknown(String),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Abort { outdated, reason } => Self::Abort(Cause {
                topic: None,
                by_message: false,
                outdated,
                reason,
            }),
            Stop::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

async fn publish<P: Producer>(
    producer: &P,
    parts: &[Part<'_>],
    group: &P::Group,
    membership: &<P::Group as Group>::Membership,
    observer: &dyn PublishObserver,
) -> Result<HashMap<String, u64>, Failed> {
    let offsets = parts.iter().map(|part| GroupOffset {
        partition: part.partition,
        mark: part.mark,
    });
    let offsets: Vec<GroupOffset<'_>> = offsets.collect();
    producer.begin().await?;
    let sent = send(producer, parts, observer).await?;
    failpoint::hit("publish-inside-transaction");
    if sent.is_empty() || !mutant::is_armed(Mutant::Offsets) {
        producer.send_offsets(&offsets, group, membership).await?;
    }
    failpoint::hit("publish-before-commit");
    producer.commit().await?;
    failpoint::hit("publish-after-commit");
    Ok(sent)
}

/// Sends every record and waits for every report.
async fn send(
    producer: &impl Producer,
    parts: &[Part<'_>],
    observer: &dyn PublishObserver,
) -> Result<HashMap<String, u64>, Failed> {
    let started = Instant::now();
    let frames = || parts.iter().flat_map(|part| &part.frames);
    let mut records = frames().flat_map(|frame| &frame.records);
    let refused = records.find_map(|record| producer.produce(record).err());
    let Delivered { sent, mut failed } = producer.drain().await;
    // A message that the client refuses doesn't mark the transaction as failed: it would be committed without the message.
    failed.extend(refused);
    if let Some(blamed) = blame(&failed) {
        count_by_topic(&failed)
            .into_iter()
            .for_each(|(topic, count)| observer.failed(topic, count));
        let mut cause = Cause::delivery(blamed);
        // The topic may have been created or recreated since the client last read its metadata: new producers know it.
        if blamed.blame == Blame::UnknownTopic && !producer.is_missing(&blamed.topic).await {
            cause.by_message = false;
        }
        return Err(Failed::Abort(cause));
    }
    let expected: u64 = frames().map(|frame| frame.records.len() as u64).sum();
    let reported: u64 = sent.values().sum();
    if reported != expected {
        let reason = format!("{reported} delivery reports for {expected} records");
        return Err(Failed::Unknown(reason));
    }
    sent.keys()
        .for_each(|topic| observer.send_duration(topic, started.elapsed()));
    Ok(sent)
}

/// The failure to act on. One caused by a message comes first, then trouble, then consequences of other failures.
fn blame(failed: &[Undelivered]) -> Option<&Undelivered> {
    failed.iter().min_by_key(|failed| failed.blame)
}

fn count_by_topic(failed: &[Undelivered]) -> HashMap<&str, u64> {
    let mut counts = HashMap::new();
    for one in failed {
        *counts.entry(one.topic.as_str()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(topic: &str, blame: Blame) -> Undelivered {
        Undelivered {
            topic: topic.to_owned(),
            blame,
            reason: String::new(),
        }
    }

    #[test]
    fn the_message_is_blamed_before_what_failed_along_with_it() {
        let failed = [
            failed("a", Blame::Others),
            failed("b", Blame::Trouble),
            failed("c", Blame::Message),
        ];
        let blamed = blame(&failed).expect("something failed");
        assert_eq!((blamed.topic.as_str(), blamed.blame), ("c", Blame::Message));
        let blamed = blame(&failed[..2]).expect("something failed");
        assert_eq!((blamed.topic.as_str(), blamed.blame), ("b", Blame::Trouble));
    }

    #[test]
    fn nothing_failed_blames_nobody() {
        assert!(blame(&[]).is_none());
    }
}
