//! A partition's way from its assignment to work, back after something failed, and to its end: what happened goes in, what
//! to do next comes out. What happens within [`Action::Work`] is in [`crate::round`].
//!
//! ```text
//!  claim ─► fence ─► inspect ─► start? ─► own alone ─► batch 0 │ recommit │ publish the rest ─► assign ─► work
//!    ▲                                                                                                  │
//!    └─────────────────── unassign ◄── lost a compare-and-set, or a publish of unknown outcome ─────────┘
//!
//!  any step ── trouble ─► wait ─► the same step        any step ── drain ─► release ─► stop
//!  any step ── what no crash explains ─► halt (until it is drained, or a person decides: then claim again)
//! ```
//!
//! The worker performs one [`Action`] at a time and answers with one [`Event`]; it takes no decision of
//! its own. Trouble of the infrastructure repeats the step and costs nothing else.

use crate::frame::BatchNumber;
use crate::halt::Halt;
use crate::record::Offset;
use crate::recovery::{self, Log, Mark, Progress, Reset, Verdict, Watermark};

/// What the worker is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Raise the epoch, which shuts out every earlier owner, and read progress.
    Claim,
    /// Abort what earlier owners left open in Kafka.
    Fence {
        /// Their transactional ids.
        owners: Vec<String>,
    },
    /// Read topic id, log and watermark, in this order.
    Inspect,
    /// Store the first offset and the topic's id.
    Start {
        /// The first record to decide.
        offset: Offset,
        /// The log as inspected.
        log: Log,
    },
    /// Make the own transactional ids the only owners.
    OwnAlone,
    /// Commit an offset with its batch as metadata, and no messages.
    CommitOffset(Mark),
    /// Record that everything up to a batch is published.
    MarkPublished {
        /// The batch.
        batch: BatchNumber,
    },
    /// Publish frames from the outbox.
    Publish {
        /// The first.
        first: BatchNumber,
        /// The last.
        last: BatchNumber,
    },
    /// Begin to fetch.
    Assign {
        /// The next record to decide.
        offset: Offset,
        /// The batch up to which everything is published.
        batch: BatchNumber,
    },
    /// Decide and commit what comes, until something happens.
    Work,
    /// Stop fetching and forget what was fetched.
    Unassign,
    /// Wait before the next action: full jitter on the attempt.
    Wait {
        /// How often the step was tried, from 0.
        attempt: u32,
    },
    /// Say why the partition stops, and wait to be drained.
    Halt(Halt),
    /// Give the partition back: publish what waits, record it, leave the owners.
    Release,
    /// End.
    Stop,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The claim's answer.
    Claimed {
        /// Transactional ids of earlier owners.
        owners: Vec<String>,
        /// The partition's progress.
        progress: Progress,
    },
    /// What Kafka says.
    Inspected {
        /// The group's committed offset.
        watermark: Watermark,
        /// The partition's log.
        log: Log,
        /// Whether another partition of the topic was started before.
        topic_known: bool,
    },
    /// The action was carried out and has nothing to tell.
    Done,
    /// Infrastructure failed: the step has no effect, or one that repeating it finds.
    Trouble,
    /// A compare-and-set found another state, or a publish ended without an answer: memory is not to be
    /// trusted.
    Uncertain,
    /// The partition was assigned to somebody else.
    NotOwner,
    /// What no crash explains.
    Halted(Halt),
    /// A person decided what becomes of a halted partition.
    Resolved,
    /// The partition is revoked, or the host stops.
    Drain,
}

/// A partition between its assignment and its end.
#[derive(Debug)]
pub struct Partition {
    reset: Reset,
    /// The action that is being carried out.
    doing: Action,
    /// The action that waits for a backoff to end.
    then: Option<Action>,
    progress: Option<Progress>,
    /// Inspected once the partition has a start.
    inspected: Option<(Watermark, Log)>,
    attempt: u32,
    assigned: bool,
}

impl Partition {
    /// A partition that was just assigned; its first action is to claim.
    pub fn new(reset: Reset) -> Self {
        Self {
            reset,
            doing: Action::Claim,
            then: None,
            progress: None,
            inspected: None,
            attempt: 0,
            assigned: false,
        }
    }

    /// The action to carry out now.
    pub fn action(&self) -> &Action {
        &self.doing
    }

    /// A batch was committed: the next trouble is a new one.
    pub fn succeeded(&mut self) {
        self.attempt = 0;
    }

    /// Takes what happened and answers what to do next.
    pub fn handle(&mut self, event: Event) -> Action {
        let next = match event {
            Event::Drain => match self.doing {
                Action::Stop => Action::Stop,
                _ => Action::Release,
            },
            _ if matches!(self.doing, Action::Release | Action::Stop) => Action::Stop,
            Event::NotOwner => Action::Stop,
            Event::Halted(halt) => Action::Halt(halt),
            Event::Resolved => self.again(),
            Event::Trouble => {
                self.then = Some(self.doing.clone());
                self.attempt = self.attempt.saturating_add(1);
                Action::Wait {
                    attempt: self.attempt - 1,
                }
            }
            Event::Uncertain => {
                self.then = Some(self.again());
                self.attempt = self.attempt.saturating_add(1);
                Action::Wait {
                    attempt: self.attempt - 1,
                }
            }
            Event::Claimed { owners, progress } => {
                self.progress = Some(progress);
                match owners.is_empty() {
                    true => Action::Inspect,
                    false => Action::Fence { owners },
                }
            }
            Event::Inspected {
                watermark,
                log,
                topic_known,
            } => self.inspected(watermark, log, topic_known),
            Event::Done => self.done(),
        };
        if !matches!(next, Action::Wait { .. }) && !matches!(self.doing, Action::Wait { .. }) {
            self.attempt = 0;
        }
        self.doing = next.clone();
        next
    }

    /// Memory is not trusted: the whole recovery, with nothing fetched meanwhile.
    fn again(&mut self) -> Action {
        self.inspected = None;
        match std::mem::take(&mut self.assigned) {
            true => Action::Unassign,
            false => Action::Claim,
        }
    }

    fn inspected(&mut self, watermark: Watermark, log: Log, topic_known: bool) -> Action {
        self.inspected = Some((watermark, log));
        match self.progress.and_then(|progress| progress.next_offset) {
            Some(_) => Action::OwnAlone,
            None => match recovery::start(watermark, log, topic_known, self.reset) {
                Ok(offset) => Action::Start { offset, log },
                Err(halt) => Action::Halt(halt),
            },
        }
    }

    fn done(&mut self) -> Action {
        match self.doing.clone() {
            Action::Fence { .. } => Action::Inspect,
            Action::Unassign => Action::Claim,
            Action::Start { offset, log } => {
                if let Some(progress) = &mut self.progress {
                    progress.next_offset = Some(offset);
                    progress.topic_id = Some(log.topic_id);
                }
                Action::OwnAlone
            }
            Action::OwnAlone => self.compared(),
            Action::CommitOffset(mark) => Action::MarkPublished { batch: mark.batch },
            Action::Publish { last, .. } => Action::MarkPublished { batch: last },
            Action::MarkPublished { .. } => self.assign(),
            Action::Assign { .. } => {
                self.assigned = true;
                Action::Work
            }
            Action::Wait { .. } => self.then.take().unwrap_or(Action::Claim),
            Action::Claim | Action::Inspect => Action::Claim,
            Action::Work => Action::Work,
            Action::Halt(halt) => Action::Halt(halt),
            Action::Release | Action::Stop => Action::Stop,
        }
    }

    fn compared(&self) -> Action {
        let (Some(progress), Some((watermark, log))) = (self.progress, self.inspected) else {
            return Action::Claim;
        };
        let offset = progress.next_offset.unwrap_or(log.low);
        match recovery::compare(progress, watermark, log) {
            Err(halt) => Action::Halt(halt),
            Ok(Verdict::CommitBatchZero | Verdict::Recommit) => {
                Action::CommitOffset(progress.mark(offset))
            }
            Ok(Verdict::Publish { first, last }) if first > last => {
                Action::MarkPublished { batch: last }
            }
            Ok(Verdict::Publish { first, last }) => Action::Publish { first, last },
        }
    }

    fn assign(&self) -> Action {
        match self.progress {
            Some(Progress {
                next_offset: Some(offset),
                batch,
                ..
            }) => Action::Assign { offset, batch },
            _ => Action::Claim,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const LOG: Log = Log {
        topic_id: Uuid::from_u128(7),
        low: 0,
        high: 100,
    };

    fn claimed(owners: &[&str], next_offset: Option<Offset>, batch: BatchNumber) -> Event {
        let progress = Progress {
            topic_id: next_offset.map(|_| LOG.topic_id),
            next_offset,
            batch,
            published: next_offset.map(|_| 0),
            token: None,
            decided_watermark: None,
        };
        Event::Claimed {
            owners: owners.iter().map(|id| (*id).to_owned()).collect(),
            progress,
        }
    }

    fn inspected(watermark: Watermark) -> Event {
        Event::Inspected {
            watermark,
            log: LOG,
            topic_known: false,
        }
    }

    #[test]
    fn a_new_partition_commits_batch_zero_before_anything_is_decided() {
        let mut partition = Partition::new(Reset::Earliest);
        assert_eq!(partition.handle(claimed(&[], None, 0)), Action::Inspect);
        let next = partition.handle(inspected(Watermark::None));
        assert_eq!(
            next,
            Action::Start {
                offset: 0,
                log: LOG
            }
        );
        assert_eq!(partition.handle(Event::Done), Action::OwnAlone);
        let next = partition.handle(Event::Done);
        assert_eq!(
            next,
            Action::CommitOffset(Mark {
                batch: 0,
                offset: 0,
                token: None
            })
        );
        assert_eq!(
            partition.handle(Event::Done),
            Action::MarkPublished { batch: 0 }
        );
        assert_eq!(
            partition.handle(Event::Done),
            Action::Assign {
                offset: 0,
                batch: 0
            }
        );
        assert_eq!(partition.handle(Event::Done), Action::Work);
    }

    #[test]
    fn after_a_crash_earlier_owners_are_fenced_and_the_rest_is_published() {
        let mut partition = Partition::new(Reset::Earliest);
        let next = partition.handle(claimed(&["a-0"], Some(40), 7));
        assert_eq!(
            next,
            Action::Fence {
                owners: vec!["a-0".to_owned()]
            }
        );
        assert_eq!(partition.handle(Event::Done), Action::Inspect);
        let mark = Watermark::Ours(Mark {
            offset: 30,
            batch: 5,
            token: None,
        });
        assert_eq!(partition.handle(inspected(mark)), Action::OwnAlone);
        assert_eq!(
            partition.handle(Event::Done),
            Action::Publish { first: 6, last: 7 }
        );
        assert_eq!(
            partition.handle(Event::Done),
            Action::MarkPublished { batch: 7 }
        );
        assert_eq!(
            partition.handle(Event::Done),
            Action::Assign {
                offset: 40,
                batch: 7
            }
        );
    }

    #[test]
    fn trouble_repeats_the_step_and_a_success_forgets_it() {
        let mut partition = Partition::new(Reset::Earliest);
        for attempt in 0..3 {
            assert_eq!(partition.handle(Event::Trouble), Action::Wait { attempt });
            assert_eq!(partition.handle(Event::Done), Action::Claim);
        }
        assert_eq!(partition.handle(claimed(&[], Some(1), 0)), Action::Inspect);
        assert_eq!(
            partition.handle(Event::Trouble),
            Action::Wait { attempt: 0 }
        );
        assert_eq!(partition.handle(Event::Done), Action::Inspect);
    }

    #[test]
    fn what_is_uncertain_begins_again_with_nothing_fetched() {
        let mut partition = working();
        assert_eq!(
            partition.handle(Event::Uncertain),
            Action::Wait { attempt: 0 }
        );
        assert_eq!(partition.handle(Event::Done), Action::Unassign);
        assert_eq!(partition.handle(Event::Done), Action::Claim);
    }

    #[test]
    fn a_revoked_or_halted_partition_decides_nothing_more() {
        let halt = Halt::FrameMissing { batch: 3 };
        let mut partition = working();
        let halted = Action::Halt(halt.clone());
        assert_eq!(partition.handle(Event::Halted(halt)), halted);
        assert_eq!(partition.handle(Event::Done), halted);
        assert_eq!(partition.handle(Event::Drain), Action::Release);
        for event in [Event::Done, Event::Trouble, Event::Uncertain] {
            assert_eq!(partition.handle(event), Action::Stop);
        }
        assert_eq!(working().handle(Event::NotOwner), Action::Stop);
    }

    #[test]
    fn a_halted_partition_is_read_anew_once_a_person_has_decided() {
        let halt = || Event::Halted(Halt::FrameMissing { batch: 3 });
        let mut partition = working();
        partition.handle(halt());
        assert_eq!(partition.handle(Event::Resolved), Action::Unassign);
        assert_eq!(partition.handle(Event::Done), Action::Claim);
        partition.handle(halt());
        assert_eq!(partition.handle(Event::Resolved), Action::Claim);
    }

    fn working() -> Partition {
        let mut partition = Partition::new(Reset::Earliest);
        partition.handle(claimed(&[], Some(10), 2));
        partition.handle(inspected(Watermark::Ours(Mark {
            offset: 10,
            batch: 2,
            token: None,
        })));
        for _ in 0..3 {
            partition.handle(Event::Done);
        }
        assert_eq!(*partition.action(), Action::Work);
        partition
    }
}
