//! The frames that wait to be published, one lane for each partition, and the choice of the next transaction's frames. No
//! clock, no Kafka.
//!
//! Invariants: a lane's frames have no gap, they leave in order, and each gets exactly one answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::record::TopicPartition;
use taskhost_core::watermark::Mark;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::answer::{Answer, Unpublished};
use super::ownership::Tag;

/// One thing to publish.
#[derive(Debug)]
pub(crate) enum Work {
    /// A frame, and the token of the attempt that committed it, where that is known.
    Frame(Arc<Frame>, Option<Uuid>),
    /// The offset of a batch whose frame is published already.
    Recommit(Mark),
}

impl Work {
    pub(crate) fn batch(&self) -> BatchNumber {
        self.mark().batch
    }

    /// The watermark once it is published.
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Self::Frame(frame, token) => Mark {
                batch: frame.batch,
                offset: frame.next_offset,
                token: *token,
            },
            Self::Recommit(mark) => *mark,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Frame(frame, _) => frame.size(),
            Self::Recommit(_) => 0,
        }
    }
}

/// A waiting item, and the worker that waits for its answer.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) work: Work,
    pub(crate) reply: oneshot::Sender<Answer>,
}

impl Item {
    pub(crate) fn answer(self, answer: Answer) {
        // A worker that has ended needs no answer.
        let _ = self.reply.send(answer);
    }
}

/// One partition's part of a transaction.
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
    /// Why no frame is accepted until the worker begins again.
    closed: Option<Unpublished>,
    /// Frames still to publish one per transaction, until the bad message is found.
    alone: usize,
    /// Failures in a row while alone.
    failures: u32,
    not_before: Option<Instant>,
    /// The number of its last turn.
    served: u64,
}

/// All partitions.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<TopicPartition, Lane>,
    turn: u64,
}

impl Lanes {
    pub(crate) fn begin(&mut self, partition: TopicPartition, tag: Tag, next: BatchNumber) {
        let lane = Lane {
            tag,
            next,
            queue: VecDeque::new(),
            closed: None,
            alone: 0,
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
                Work::Frame(..) if found != lane.next => Some(Unpublished::Gap {
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

    /// When the next frame can be published; none if nothing waits.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let waiting = self.lanes.values().filter(|lane| !lane.queue.is_empty());
        waiting.map(|lane| lane.not_before.unwrap_or(now)).min()
    }

    /// Takes the frames of the next transaction: all that may go together, up to the byte limit but at least one, from the
    /// longest waiting lanes first. Or one frame of a lane that publishes its frames one per transaction.
    pub(crate) fn take(&mut self, now: Instant, bytes_max: usize) -> Vec<Share> {
        self.turn += 1;
        let mut ready: Vec<(&TopicPartition, &mut Lane)> = self
            .lanes
            .iter_mut()
            .filter(|(_, lane)| {
                !lane.queue.is_empty() && lane.not_before.is_none_or(|time| time <= now)
            })
            .collect();
        // Lanes of both kinds take turns, so that neither kind starves the other.
        ready.sort_by_key(|(_, lane)| lane.served);
        let alone = ready.first().is_some_and(|(_, lane)| lane.alone > 0);
        let (mut shares, mut bytes) = (Vec::new(), 0);
        for (partition, lane) in ready
            .into_iter()
            .filter(|(_, lane)| (lane.alone > 0) == alone)
        {
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
                lane.alone = lane.alone.saturating_sub(share.items.len());
                (lane.failures, lane.not_before) = (0, None);
            }
            share.items.into_iter().for_each(|item| item.answer(Ok(())));
        }
    }

    /// Ends the backoff of all lanes.
    pub(crate) fn hurry(&mut self) {
        for lane in self.lanes.values_mut() {
            (lane.failures, lane.not_before) = (0, None);
        }
    }

    /// Puts back shares that were not published, to be tried again from `not_before` on, which gets the number of failures
    /// in a row. With `alone`, one frame per transaction, to find the bad message.
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
            if alone {
                lane.alone = lane.alone.max(share.items.len());
            }
            lane.failures += 1;
            lane.not_before = Some(not_before(lane.failures));
            while let Some(item) = share.items.pop() {
                lane.queue.push_front(item);
            }
        }
    }

    /// Gives the shares, and the frames that wait behind them, an answer other than `Ok`.
    pub(crate) fn refuse(&mut self, shares: Vec<Share>, why: &Unpublished) {
        for share in shares {
            let behind = self.lane(&share).map(|lane| {
                lane.closed = Some(why.clone());
                lane.alone = 0;
                std::mem::take(&mut lane.queue)
            });
            let items = share.items.into_iter().chain(behind.into_iter().flatten());
            items.for_each(|item| item.answer(Err(why.clone())));
        }
    }

    /// Gives all waiting frames that answer.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::log::Ownership;

    type Waiting = oneshot::Receiver<Answer>;

    struct Desk {
        lanes: Lanes,
        partitions: Vec<(TopicPartition, Tag)>,
        now: Instant,
    }

    impl Desk {
        fn with_partitions(count: i32) -> Self {
            let (ownership, mut lanes) = (Ownership::new(), Lanes::default());
            let partitions: Vec<_> = (0..count)
                .map(|number| TopicPartition::new("t", number))
                .map(|name| (name.clone(), ownership.assign(&name).0))
                .collect();
            partitions
                .iter()
                .for_each(|(name, tag)| lanes.begin(name.clone(), *tag, 0));
            Self {
                lanes,
                partitions,
                now: Instant::now(),
            }
        }

        fn hand_in(&mut self, partition: usize, batch: BatchNumber) -> Waiting {
            let (reply, answer) = oneshot::channel();
            let (name, tag) = self.partitions[partition].clone();
            let frame = Arc::new(Frame {
                batch,
                next_offset: batch,
                records: vec![],
            });
            self.lanes.accept(
                &name,
                tag,
                Item {
                    work: Work::Frame(frame, None),
                    reply,
                },
            );
            answer
        }

        /// Partition and batches of what goes next.
        fn take(&mut self) -> (Vec<Share>, Vec<(i32, Vec<BatchNumber>)>) {
            let shares = self.lanes.take(self.now, 1000);
            let mut shown: Vec<_> = shares
                .iter()
                .map(|share| {
                    (
                        share.partition.partition,
                        share.items.iter().map(|item| item.work.batch()).collect(),
                    )
                })
                .collect();
            shown.sort();
            (shares, shown)
        }
    }

    fn poison() -> Unpublished {
        Unpublished::Poison {
            batch: 1,
            topic: "out".into(),
            reason: "too large".into(),
        }
    }

    #[test]
    fn whatever_waits_goes_together_and_in_order() {
        let mut desk = Desk::with_partitions(2);
        let mut answers = [desk.hand_in(0, 0), desk.hand_in(1, 0), desk.hand_in(0, 1)];
        let (shares, shown) = desk.take();
        assert_eq!(shown, [(0, vec![0, 1]), (1, vec![0])]);
        desk.lanes.published(shares);
        assert!(
            answers
                .iter_mut()
                .all(|answer| answer.try_recv() == Ok(Ok(())))
        );
        assert!(desk.lanes.is_empty() && desk.lanes.due(desk.now).is_none());
    }

    #[test]
    fn after_a_failure_each_partition_goes_alone_frame_by_frame() {
        let mut desk = Desk::with_partitions(2);
        let mut answers = [
            desk.hand_in(0, 0),
            desk.hand_in(0, 1),
            desk.hand_in(0, 2),
            desk.hand_in(1, 0),
        ];
        let (shares, _) = desk.take();
        let now = desk.now;
        desk.lanes.put_back(shares, true, |_| now);
        let mut seen = Vec::new();
        loop {
            let (shares, shown) = desk.take();
            let Some((partition, batches)) = shown.first().cloned() else {
                break;
            };
            assert_eq!(shown.len(), 1);
            if (partition, &batches[..]) == (0, &[1]) {
                desk.lanes.refuse(shares, &poison());
            } else {
                desk.lanes.published(shares);
            }
            seen.push((partition, batches));
        }
        seen.sort();
        assert_eq!(seen, [(0, vec![0]), (0, vec![1]), (1, vec![0])]);
        let answers: Vec<_> = answers
            .iter_mut()
            .map(|answer| answer.try_recv().expect("an answer"))
            .collect();
        assert_eq!(answers, [Ok(()), Err(poison()), Err(poison()), Ok(())]);
    }

    #[test]
    fn a_refused_lane_stays_refused_until_it_begins_again() {
        let mut desk = Desk::with_partitions(1);
        let _first = desk.hand_in(0, 0);
        let (shares, _) = desk.take();
        desk.lanes.refuse(shares, &poison());
        assert_eq!(desk.hand_in(0, 1).try_recv(), Ok(Err(poison())));
        let (name, tag) = desk.partitions[0].clone();
        desk.lanes.begin(name, tag, 0);
        assert!(desk.hand_in(0, 0).try_recv().is_err(), "it waits");
    }

    #[test]
    fn a_partition_that_backs_off_holds_up_nobody() {
        let mut desk = Desk::with_partitions(2);
        let _waiting = [desk.hand_in(0, 0)];
        let (shares, _) = desk.take();
        let later = desk.now + Duration::from_secs(1);
        desk.lanes.put_back(shares, false, |_| later);
        let _other = desk.hand_in(1, 0);
        assert_eq!(desk.take().1, [(1, vec![0])]);
        assert_eq!(desk.lanes.due(desk.now), Some(later));
        desk.now = later;
        assert_eq!(desk.take().1, [(0, vec![0])]);
    }

    #[test]
    fn beginning_again_answers_what_waits() {
        let mut desk = Desk::with_partitions(1);
        let mut waiting = desk.hand_in(0, 0);
        let (name, tag) = desk.partitions[0].clone();
        desk.lanes.begin(name, tag, 5);
        assert!(matches!(
            waiting.try_recv(),
            Ok(Err(Unpublished::Uncertain { .. }))
        ));
        assert_eq!(
            desk.hand_in(0, 6).try_recv(),
            Ok(Err(Unpublished::Gap {
                expected: Some(5),
                found: 6
            }))
        );
    }
}
