//! The poll thread. It serves librdkafka's queue as long as the consumer exists, and never stops polling, whatever is
//! paused.
//!
//! Assign: every partition gets a new tag, and an **empty** assignment acknowledges the rebalance. Then the host is told.
//! Workers add their partitions when they have recovered. Revoke: workers are asked to finish, and the thread waits for them
//! for at most a second. Then, under the revoke lock, it drops the tags and unassigns the partitions. Kept partitions go on
//! meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use taskhost_core::record::TopicPartition;
use tokio::sync::mpsc;

use super::ffi::describe::other_consumer;
use super::ffi::events::{Content, ErrorReport, Fetched, Rebalance};
use super::membership::{Assignment, Command, Shared, list};
use super::nudge::Nudge;
use crate::log::{Disposition, Error};
use crate::log::{Fed, Feeder, Flow, Tag, feed};
use crate::log::{GRANT_IT, MissingRight};

/// How long workers of a revoked partition have to finish their open batch. Rebalances wait for this. The next owner recovers
/// a batch that isn't finished.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);

/// Assignments that follow when partitions are given back under the classic protocol: the new partitions of the same round,
/// and those of the next round, for which librdkafka then joins again. They may be empty.
const OWED: u8 = 2;

/// Longest sleep of the thread; events and commands wake it.
const POLL_PATIENCE: Duration = Duration::from_secs(1);

/// The same while it closes: no event says when librdkafka is done.
const CLOSING_PATIENCE: Duration = Duration::from_millis(20);

pub(crate) struct PollThread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) assignments: mpsc::UnboundedSender<Assignment>,
    pub(crate) nudge: Nudge,
    /// The partition of the last message: messages of a partition come in runs.
    pub(crate) latest: Option<(TopicPartition, Feeder)>,
    pub(crate) closing: bool,
    /// The state for health.
    pub(crate) group: String,
    /// Whether the members assign the partitions themselves.
    pub(crate) is_classic: bool,
}

impl PollThread {
    pub(crate) fn run(mut self) {
        while !(self.closing && self.shared.polled.is_closed()) {
            while let Ok(command) = self.commands.try_recv() {
                if !self.obey(command) {
                    return self.end();
                }
            }
            let patience = match self.closing {
                true => CLOSING_PATIENCE,
                false => POLL_PATIENCE,
            };
            if let Some(event) = self.shared.polled.poll(patience)
                && !self.handle(event.content())
            {
                return self.end();
            }
        }
        self.end();
    }

    /// False if the thread has to end.
    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Resume(partition, tag) => {
                let held = self.shared.ownership.lock();
                if held.holds(&partition, tag) {
                    warn_failed(
                        "resuming",
                        self.shared.polled.client().resume(&list([&partition])),
                    );
                    self.nudge.fetchers();
                }
            }
            Command::Remove(partition, tag, reply) => {
                // The caller may have ended: the partition is unassigned anyway.
                let _ = reply.send(self.remove(&partition, tag));
            }
            // The first request also answers a second one.
            Command::Close if self.closing => {}
            Command::Close => {
                self.closing = true;
                if let Err(error) = self.shared.polled.begin_close() {
                    tracing::warn!(%error, "the group can't be left in order; this member's session will expire");
                    return false;
                }
            }
        }
        true
    }

    /// False if the thread has to end.
    fn handle(&mut self, content: Content<'_>) -> bool {
        match content {
            Content::Fetched(fetched) => self.feed(&fetched),
            Content::Rebalance {
                what: Rebalance::Assign,
                partitions,
            } => self.assign(&partitions),
            Content::Rebalance {
                what: Rebalance::Revoke,
                partitions,
            } => self.revoke(&partitions),
            Content::Rebalance {
                what: Rebalance::Failed(code),
                ..
            } => {
                tracing::warn!(%code, "the rebalance failed; all partitions are given back");
                let everything = self.shared.ownership.held();
                self.give_back(&everything, true);
            }
            Content::Error(report) => return self.report(report),
            Content::Log {
                level,
                facility,
                text,
            } => super::context::log(level, &facility, &text),
            Content::Reports(_) | Content::Other => {}
        }
        true
    }

    fn feed(&mut self, fetched: &Fetched<'_>) {
        let known = self.latest.as_ref().is_some_and(|(partition, _)| {
            partition.partition == fetched.partition()
                && partition.topic.as_bytes() == fetched.topic()
        });
        if !known {
            let topic = String::from_utf8_lossy(fetched.topic());
            self.latest = self
                .shared
                .feeder(&TopicPartition::new(&*topic, fetched.partition()));
        }
        // A partition without a feed was revoked while its message was in flight.
        if let Some((partition, feeder)) = &self.latest
            && feeder.push(Fed::Message(fetched.to_message(partition.topic.clone()))) == Flow::Pause
        {
            warn_failed(
                "pausing",
                self.shared.polled.client().pause(&list([partition])),
            );
        }
    }

    fn assign(&mut self, partitions: &[TopicPartition]) {
        tracing::info!(partitions = %names(partitions), "partitions are assigned");
        let owed = self.shared.owed.load(Ordering::Relaxed);
        self.owe(owed.saturating_sub(1));
        let assigned: Vec<Assignment> = partitions
            .iter()
            .map(|partition| self.open(partition))
            .collect();
        if let Err(error) = self.shared.polled.client().incremental_assign(&list([])) {
            tracing::warn!(%error, "the assignment could not be acknowledged");
        }
        self.nudge.fetchers();
        assigned
            .into_iter()
            .for_each(|assignment| self.tell(assignment));
    }

    fn open(&mut self, partition: &TopicPartition) -> Assignment {
        let (tag, draining) = self.shared.ownership.assign(partition);
        let (shared, name) = (Arc::downgrade(&self.shared), partition.clone());
        let (feeder, feed) = feed(move || {
            if let Some(shared) = shared.upgrade() {
                shared.command(Command::Resume(name.clone(), tag));
            }
        });
        if let Some((_, former)) = self
            .shared
            .feeders()
            .insert(partition.clone(), (tag, feeder))
        {
            former.close();
        }
        self.latest = None;
        Assignment::Assigned {
            partition: partition.clone(),
            tag,
            feed,
            draining,
        }
    }

    fn revoke(&mut self, partitions: &[TopicPartition]) {
        let lost = self.shared.polled.client().assignment_lost();
        tracing::info!(partitions = %names(partitions), lost, "partitions are revoked");
        self.owe(if self.is_classic && !lost { OWED } else { 0 });
        self.shared.ownership.drain(partitions);
        if !lost
            && !self
                .shared
                .ownership
                .wait_released(partitions, RELEASE_PATIENCE)
        {
            tracing::info!(
                "some workers did not finish in time; the next owner recovers their open batches"
            );
        }
        self.give_back(partitions, lost);
    }

    /// Only this thread changes it.
    fn owe(&self, assignments: u8) {
        self.shared.owed.store(assignments, Ordering::Relaxed);
    }

    fn give_back(&mut self, partitions: &[TopicPartition], lost: bool) {
        let mut dropped = Vec::new();
        {
            let mut held = self.shared.ownership.lock();
            dropped.extend(
                partitions
                    .iter()
                    .filter_map(|name| held.drop_tag(name).map(|tag| (name.clone(), tag))),
            );
            // librdkafka's assignment has only the added partitions, and a list with any other fails as a whole.
            let assigned = self.shared.assigned();
            let both = list(partitions.iter().filter(|name| assigned.contains(name)));
            warn_failed(
                "unassigning",
                self.shared.polled.client().incremental_unassign(&both),
            );
        }
        self.nudge.fetchers();
        self.latest = None;
        for (partition, tag) in dropped {
            if let Some((_, feeder)) = self.shared.feeders().remove(&partition) {
                feeder.close();
            }
            self.tell(Assignment::Revoked {
                partition,
                tag,
                lost,
            });
        }
    }

    /// Runs in this thread: otherwise a message that this thread is just handling would be fed after the feed was emptied.
    fn remove(&mut self, partition: &TopicPartition, tag: Tag) -> Result<bool, Error> {
        let held = self.shared.ownership.lock();
        if !held.holds(partition, tag) {
            return Ok(false);
        }
        if let Some((_, feeder)) = self.shared.feeder(partition) {
            feeder.stop();
        }
        if self.shared.assigned().contains(partition) {
            let client = self.shared.polled.client();
            client
                .incremental_unassign(&list([partition]))
                .map_err(|error| Error::kafka("removing a partition", &error))?;
        }
        Ok(true)
    }

    /// False if the thread has to end.
    fn report(&mut self, report: ErrorReport) -> bool {
        const DOING: &str = "consuming";
        let ErrorReport {
            code,
            reason,
            fatal,
            partition,
        } = report;
        if fatal {
            let reason = self.shared.polled.fatal_error().unwrap_or(reason);
            tracing::error!(reason, "the consumer has a fatal error");
            self.tell(Assignment::Failed(Error::new(
                DOING,
                Disposition::Fatal,
                reason,
            )));
            return false;
        }
        let error = Error::new(
            DOING,
            Error::code(DOING, code).disposition(),
            explained(code, reason.clone(), &self.group),
        );
        match partition {
            Some((partition, offset)) => {
                let fed = match (code, offset) {
                    (RDKafkaErrorCode::PartitionEOF, Some(offset)) => Fed::End { offset },
                    (
                        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                        offset,
                    ) => Fed::OutOfRange { offset, reason },
                    _ => Fed::Error(error),
                };
                if let Some((_, feeder)) = self.shared.feeder(&partition) {
                    feeder.push(fed);
                }
            }
            None => self.tell(match code {
                RDKafkaErrorCode::AllBrokersDown => Assignment::Gone(error),
                _ => Assignment::Trouble(error),
            }),
        }
        true
    }

    /// The thread has ended, for whatever reason: no partition is owned any more.
    fn end(&mut self) {
        let partitions = self.shared.ownership.held();
        let mut held = self.shared.ownership.lock();
        let dropped: Vec<_> = partitions
            .into_iter()
            .filter_map(|name| held.drop_tag(&name).map(|tag| (name, tag)))
            .collect();
        drop(held);
        self.shared
            .feeders()
            .drain()
            .for_each(|(_, (_, feeder))| feeder.close());
        for (partition, tag) in dropped {
            self.tell(Assignment::Revoked {
                partition,
                tag,
                lost: true,
            });
        }
    }

    fn tell(&self, assignment: Assignment) {
        // If the host no longer receives, it is shutting down.
        let _ = self.assignments.send(assignment);
    }
}

/// librdkafka's text, with its meaning for the group.
fn explained(code: RDKafkaErrorCode, reason: String, group: &str) -> String {
    match code {
        RDKafkaErrorCode::InconsistentGroupProtocol => {
            format!("{reason}; {}", other_consumer(group))
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            format!("{reason}; {}; {GRANT_IT}", MissingRight::join(group))
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => format!("{reason}; {GRANT_IT}"),
        _ => reason,
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    partitions
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn warn_failed(what: &str, result: rdkafka::error::KafkaResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what} partitions failed");
    }
}

impl Shared {
    /// What librdkafka has in its assignment.
    fn assigned(&self) -> HashSet<TopicPartition> {
        match self.polled.client().assignment() {
            Ok(list) => list
                .elements()
                .iter()
                .map(|element| TopicPartition::new(element.topic(), element.partition()))
                .collect(),
            Err(error) => {
                tracing::warn!(%error, "the assignment could not be read");
                HashSet::new()
            }
        }
    }
}
