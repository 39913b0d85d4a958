//! The bounded queue of a partition's messages from the poll thread to its worker, in order.
//!
//! The poll thread never waits. Above the high mark it pauses the partition; librdkafka then drops prefetched messages and
//! fetches them again later. When the worker has drained the feed below the low mark, it wakes the poll thread, which
//! resumes the partition. So a feed holds at most the high mark plus one message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskhost_core::record::{Message, Offset};
use tokio::sync::Notify;

use super::error::Error;

/// Messages in a feed above which it is paused: enough for some batches, so that a worker never waits for the broker between
/// two of them.
const MESSAGES_HIGH: usize = 3_000;

/// Bytes in a feed above which it is paused.
const BYTES_HIGH: usize = 4 * 1024 * 1024;

/// Fraction of the high marks below which a feed is resumed. A pause drops the messages that are on the way from the broker.
/// So pauses should be few: the feed is nearly emptied before the next fetch.
const LOW_DIVISOR: usize = 4;

/// An item of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// The next record.
    Message(Message),
    /// Everything readable before this offset has been fed: it is the current end of the partition, after the commit markers.
    /// The same end may come again, for example after a rebalance.
    End {
        /// The next offset to be written.
        offset: Offset,
    },
    /// The offset to read from is not in the log: retention passed it, or the topic was recreated. Nothing more comes until
    /// the partition is added again.
    OutOfRange {
        /// The requested offset, if librdkafka says it.
        offset: Option<Offset>,
        /// librdkafka's own words.
        reason: String,
    },
    /// Reading this partition met an error; librdkafka goes on trying unless it is fatal.
    Error(Error),
}

/// The worker's end of one assignment's messages.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

impl Feed {
    /// The next item, or none when the partition is revoked or the consumer closed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Fed> {
        loop {
            if let Some(fed) = self.try_next() {
                return Some(fed);
            }
            if self.shared.lock().closed {
                return None;
            }
            self.shared.fed.notified().await;
        }
    }

    /// The next item that is already queued.
    pub fn try_next(&mut self) -> Option<Fed> {
        let mut state = self.shared.lock();
        let fed = state.queue.pop_front()?;
        state.bytes -= size(&fed);
        let resume = state.paused
            && state.queue.len() <= MESSAGES_HIGH / LOW_DIVISOR
            && state.bytes <= BYTES_HIGH / LOW_DIVISOR;
        state.paused &= !resume;
        drop(state);
        if resume {
            (self.shared.resume)();
        }
        Some(fed)
    }

    /// Whether the partition was revoked or the consumer closed. Queued items are dropped then.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }
}

/// The poll thread's end.
#[derive(Debug, Clone)]
pub struct Feeder {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    fed: Notify,
    resume: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Fed>,
    bytes: usize,
    paused: bool,
    /// Nothing is accepted until the partition is added (again).
    stopped: bool,
    closed: bool,
}

/// The poll thread's next action after feeding.
#[derive(Debug, PartialEq, Eq)]
pub enum Flow {
    /// Feed on.
    Go,
    /// Pause the partition.
    Pause,
}

/// Makes a feed. `resume` asks the poll thread to fetch again; it must not block.
pub fn feed(resume: impl Fn() + Send + Sync + 'static) -> (Feeder, Feed) {
    let state = State {
        stopped: true,
        ..State::default()
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        fed: Notify::new(),
        resume: Box::new(resume),
    });
    (
        Feeder {
            shared: Arc::clone(&shared),
        },
        Feed { shared },
    )
}

impl Feeder {
    /// Queues an item.
    pub fn push(&self, fed: Fed) -> Flow {
        let mut state = self.shared.lock();
        if state.closed || state.stopped {
            return Flow::Go;
        }
        state.bytes += size(&fed);
        state.queue.push_back(fed);
        let pause =
            !state.paused && (state.queue.len() > MESSAGES_HIGH || state.bytes > BYTES_HIGH);
        state.paused |= pause;
        drop(state);
        self.shared.fed.notify_one();
        if pause { Flow::Pause } else { Flow::Go }
    }

    /// Drops the queued items and accepts nothing more until [`Feeder::start`].
    pub fn stop(&self) {
        let mut state = self.shared.lock();
        let closed = state.closed;
        *state = State {
            stopped: true,
            closed,
            ..State::default()
        };
    }

    /// Accepts items from now on.
    pub fn start(&self) {
        self.shared.lock().stopped = false;
    }

    /// Drops the queued items and ends the feed.
    pub fn close(&self) {
        *self.shared.lock() = State {
            stopped: true,
            closed: true,
            ..State::default()
        };
        self.shared.fed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Feed")
            .field("queued", &state.queue.len())
            .field("bytes", &state.bytes)
            .field("paused", &state.paused)
            .finish_non_exhaustive()
    }
}

fn size(fed: &Fed) -> usize {
    match fed {
        Fed::Message(message) => message.size(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use taskhost_core::record::TopicPartition;

    use super::*;

    fn message(offset: Offset, bytes: usize) -> Fed {
        Fed::Message(Message {
            position: TopicPartition::new("t", 0).at(offset),
            timestamp: 0,
            key: None,
            value: Some(vec![0; bytes]),
            headers: Vec::new(),
        })
    }

    fn counted() -> (Feeder, Feed, Arc<AtomicUsize>) {
        let resumed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&resumed);
        let (feeder, feed) = feed(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        feeder.start();
        (feeder, feed, resumed)
    }

    #[test]
    fn a_full_feed_pauses_once_and_resumes_once() {
        let (feeder, mut feed, resumed) = counted();
        let pauses = (0..40)
            .filter(|n| feeder.push(message(*n, 1024 * 1024)) == Flow::Pause)
            .count();
        assert_eq!(pauses, 1);
        while feed.try_next().is_some() {}
        assert_eq!(resumed.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_end_stands_behind_the_messages() {
        let (feeder, mut feed, _) = counted();
        feeder.push(message(7, 1));
        feeder.push(Fed::End { offset: 9 });
        assert_eq!(feed.next().await, Some(message(7, 1)));
        assert_eq!(feed.next().await, Some(Fed::End { offset: 9 }));
    }

    #[tokio::test]
    async fn a_closed_feed_drops_what_is_queued() {
        let (feeder, mut feed, _) = counted();
        feeder.push(message(7, 1));
        feeder.close();
        assert_eq!(feed.next().await, None);
        assert_eq!(feeder.push(message(8, 1)), Flow::Go);
        assert_eq!(feed.try_next(), None);
    }

    #[test]
    fn a_stopped_feed_takes_nothing_until_it_starts_again() {
        let (feeder, mut feed, _) = counted();
        feeder.push(message(7, 1));
        feeder.stop();
        feeder.push(message(8, 1));
        feeder.start();
        feeder.push(message(3, 1));
        assert_eq!(feed.try_next(), Some(message(3, 1)));
        assert_eq!(feed.try_next(), None);
    }
}
