//! What waits to be published, partition by partition, and what goes together next. No clock, no Kafka.
//!
//! Invariants: a lane's frames follow each other without a gap; they leave in order; each gets exactly
//! one answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::record::{Offset, TopicPartition};
use tokio::sync::oneshot;

use super::ownership::Tag;
use super::publisher::{Answer, Unpublished};

/// One thing to publish.
#[derive(Debug)]
pub(crate) enum Work {
    Frame(Arc<Frame>),
    /// The offset of a batch whose frame is published already.
    Recommit {
        batch: BatchNumber,
        offset: Offset,
    },
}

impl Work {
    pub(crate) fn batch(&self) -> BatchNumber {
        match self {
            Self::Frame(frame) => frame.batch,
            Self::Recommit { batch, .. } => *batch,
        }
    }

    pub(crate) fn offset(&self) -> Offset {
        match self {
            Self::Frame(frame) => frame.next_offset,
            Self::Recommit { offset, .. } => *offset,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.size(),
            Self::Recommit { .. } => 0,
        }
    }
}

/// Something that waits, and who waits for it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) work: Work,
    pub(crate) reply: oneshot::Sender<Answer>,
}

impl Item {
    pub(crate) fn answer(self, answer: Answer) {
        // A worker that has gone needs no answer.
        let _ = self.reply.send(answer);
    }
}

/// What one partition puts into a transaction.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) partition: TopicPartition,
    pub(crate) tag: Tag,
    pub(crate) items: Vec<Item>,
}

#[derive(Debug)]
struct Lane {
    tag: Tag,
    next: BatchNumber,
    queue: VecDeque<Item>,
    /// Why nothing is taken until the worker begins again.
    closed: Option<Unpublished>,
    /// Publish this lane by itself, frame by frame: somebody's message fails, and it may be its.
    alone: bool,
    /// Failures in a row while alone.
    failures: u32,
    not_before: Option<Instant>,
    /// When it had its turn, in turns.
    served: u64,
}

/// All partitions.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: HashMap<TopicPartition, Lane>,
    turn: u64,
}

impl Lanes {
    pub(crate) fn begin(&mut self, partition: TopicPartition, tag: Tag, next: BatchNumber) {
        let lane = Lane {
            tag,
            next,
            queue: VecDeque::new(),
            closed: None,
            alone: false,
            failures: 0,
            not_before: None,
            served: self.turn,
        };
        if let Some(former) = self.lanes.insert(partition, lane) {
            let answer = if former.tag == tag {
                Unpublished::Uncertain {
                    reason: "the worker began again".into(),
                }
            } else {
                Unpublished::NotOwner
            };
            former
                .queue
                .into_iter()
                .for_each(|item| item.answer(Err(answer.clone())));
        }
    }

    pub(crate) fn accept(&mut self, partition: &TopicPartition, tag: Tag, item: Item) {
        let found = item.work.batch();
        let refusal = match self.lanes.get_mut(partition) {
            None => Some(Unpublished::Gap {
                expected: None,
                found,
            }),
            Some(lane) if lane.tag != tag => Some(Unpublished::NotOwner),
            Some(Lane {
                closed: Some(why), ..
            }) => Some(why.clone()),
            Some(lane) => match item.work {
                Work::Frame(_) if found != lane.next => Some(Unpublished::Gap {
                    expected: Some(lane.next),
                    found,
                }),
                _ => {
                    lane.next = found.saturating_add(1);
                    lane.queue.push_back(item);
                    return;
                }
            },
        };
        if let Some(refusal) = refusal {
            item.answer(Err(refusal));
        }
    }

    pub(crate) fn end(&mut self, partition: &TopicPartition, tag: Tag) {
        if self
            .lanes
            .get(partition)
            .is_some_and(|lane| lane.tag == tag)
            && let Some(lane) = self.lanes.remove(partition)
        {
            lane.queue
                .into_iter()
                .for_each(|item| item.answer(Err(Unpublished::NotOwner)));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.values().all(|lane| lane.queue.is_empty())
    }

    /// When there is something to do next: none if nothing waits.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let waiting = self.lanes.values().filter(|lane| !lane.queue.is_empty());
        waiting.map(|lane| lane.not_before.unwrap_or(now)).min()
    }

    /// Takes what goes into the next transaction: everything that may go together, up to so many bytes
    /// but at least one frame, longest waiting lanes first; or else one frame of a lane that is alone.
    pub(crate) fn take(&mut self, now: Instant, bytes_max: usize) -> Vec<Share> {
        self.turn += 1;
        let mut ready: Vec<(&TopicPartition, &mut Lane)> = self
            .lanes
            .iter_mut()
            .filter(|(_, lane)| {
                !lane.queue.is_empty() && lane.not_before.is_none_or(|time| time <= now)
            })
            .collect();
        // Those that are alone come in their turn, so that neither kind starves the other.
        ready.sort_by_key(|(_, lane)| lane.served);
        let alone = ready.first().is_some_and(|(_, lane)| lane.alone);
        let (mut shares, mut bytes) = (Vec::new(), 0);
        for (partition, lane) in ready.into_iter().filter(|(_, lane)| lane.alone == alone) {
            let mut items = Vec::new();
            while let Some(size) = lane.queue.front().map(|item| item.work.size()) {
                let first = shares.is_empty() && items.is_empty();
                if !first && (alone || bytes + size > bytes_max) {
                    break;
                }
                bytes += size;
                items.extend(lane.queue.pop_front());
            }
            if items.is_empty() {
                break;
            }
            lane.served = self.turn;
            shares.push(Share {
                partition: partition.clone(),
                tag: lane.tag,
                items,
            });
        }
        shares
    }

    /// The shares are published.
    pub(crate) fn published(&mut self, shares: Vec<Share>) {
        for share in shares {
            if let Some(lane) = self.lane(&share) {
                (lane.alone, lane.failures, lane.not_before) = (false, 0, None);
            }
            share.items.into_iter().for_each(|item| item.answer(Ok(())));
        }
    }

    /// Nothing of the shares is published: they are tried again, from `not_before` on. Answers how often
    /// in a row that has happened to the one that has failed most.
    pub(crate) fn put_back(
        &mut self,
        shares: Vec<Share>,
        alone: bool,
        not_before: impl Fn(u32) -> Instant,
    ) {
        for mut share in shares {
            let Some(lane) = self.lane(&share) else {
                share
                    .items
                    .into_iter()
                    .for_each(|item| item.answer(Err(Unpublished::NotOwner)));
                continue;
            };
            lane.alone |= alone;
            lane.failures += 1;
            lane.not_before = Some(not_before(lane.failures));
            while let Some(item) = share.items.pop() {
                lane.queue.push_front(item);
            }
        }
    }

    /// The shares, and whatever waits behind them, get an answer other than `Ok`.
    pub(crate) fn refuse(&mut self, shares: Vec<Share>, why: &Unpublished) {
        for share in shares {
            let behind = self.lane(&share).map(|lane| {
                lane.closed = Some(why.clone());
                std::mem::take(&mut lane.queue)
            });
            let items = share.items.into_iter().chain(behind.into_iter().flatten());
            items.for_each(|item| item.answer(Err(why.clone())));
        }
    }

    /// Everything that waits gets that answer.
    pub(crate) fn refuse_all(&mut self, why: &Unpublished) {
        for lane in self.lanes.values_mut() {
            lane.queue
                .drain(..)
                .for_each(|item| item.answer(Err(why.clone())));
        }
    }

    fn lane(&mut self, share: &Share) -> Option<&mut Lane> {
        self.lanes
            .get_mut(&share.partition)
            .filter(|lane| lane.tag == share.tag)
    }
}
