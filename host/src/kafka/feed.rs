//! The way of a partition's messages from the poll thread to its worker: in order, and bounded.
//!
//! The poll thread never waits. Above the high mark it pauses the partition (librdkafka throws away what
//! it prefetched and fetches it again later); when the worker has drained the feed below the low mark,
//! the poll thread is woken and resumes it. So a feed holds the high mark plus one message at most.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskhost_core::record::{Message, Offset};
use tokio::sync::Notify;

use super::error::Error;

/// Messages in a feed above which it is paused: some batches' worth, so that a worker never waits for
/// the broker between two of them.
const MESSAGES_HIGH: usize = 3_000;

/// Bytes in a feed above which it is paused.
const BYTES_HIGH: usize = 4 * 1024 * 1024;

/// Fraction of the high marks below which a feed is resumed. What is on its way from the broker at a pause is thrown
/// away, so pauses should be few: the feed is nearly emptied before.
const LOW_DIVISOR: usize = 4;

/// What a worker is fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// The next record.
    Message(Message),
    /// Everything readable before this offset has been fed: the end of the partition, behind the commit
    /// markers, for now. The same end may be told again, after a rebalance for one.
    End {
        /// The next offset that will be written to.
        offset: Offset,
    },
    /// The offset to read from is not in the log: retention passed it, or the topic was made anew.
    /// Nothing more comes until the partition is added again.
    OutOfRange {
        /// The offset that was asked for, where librdkafka says it.
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
    /// The next thing, or none when the partition is revoked or the consumer closed.
    /// Dropping the future loses nothing.
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

    /// The next thing that is here already.
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

    /// Whether the partition was revoked or the consumer closed. What was queued is dropped then.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }
}

/// The poll thread's end.
#[derive(Debug, Clone)]
pub(crate) struct Feeder {
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
    /// Nothing is taken until the partition is added (again).
    stopped: bool,
    closed: bool,
}

/// What the poll thread must do after feeding.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Go,
    Pause,
}

/// Makes a feed. `resume` asks the poll thread to fetch again; it must not block.
pub(crate) fn feed(resume: impl Fn() + Send + Sync + 'static) -> (Feeder, Feed) {
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
    pub(crate) fn push(&self, fed: Fed) -> Flow {
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

    /// Drops what is queued and takes nothing more until [`Feeder::start`].
    pub(crate) fn stop(&self) {
        let mut state = self.shared.lock();
        let closed = state.closed;
        *state = State {
            stopped: true,
            closed,
            ..State::default()
        };
    }

    pub(crate) fn start(&self) {
        self.shared.lock().stopped = false;
    }

    /// Drops what is queued and ends the feed.
    pub(crate) fn close(&self) {
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
