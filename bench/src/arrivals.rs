//! Events as they arrive, read on a thread of their own from before the contender starts.
//!
//! Somebody who looks only once the contender is ready finds many events at once and takes what was done before for very fast work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::load::Sink;

/// How soon the thread sees that nobody listens any more.
const LOOK: Duration = Duration::from_millis(100);

/// A shorter span says nothing: a transaction's events arrive all at once, and there are some 20 transactions a second.
const SHORTEST: Duration = Duration::from_millis(500);

/// What an event is told by: its id, or its key.
type Read = fn(&Sink, Duration) -> anyhow::Result<Option<String>>;

/// The events of a topic, each as soon as it is there.
pub(crate) struct Arrivals {
    events: Receiver<anyhow::Result<String>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Arrivals {
    /// Begins to read.
    pub(crate) fn of(sink: Sink, read: Read) -> Self {
        let (sender, events) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = is_over.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                let Some(event) = read(&sink, LOOK).transpose() else {
                    continue;
                };
                let failed = event.is_err();
                if sender.send(event).is_err() || failed {
                    break;
                }
            }
        });
        Self {
            events,
            is_over,
            thread: Some(thread),
        }
    }

    /// The next event, or none if nothing comes for a while.
    pub(crate) fn next(&self, patience: Duration) -> anyhow::Result<Option<String>> {
        match self.events.recv_timeout(patience) {
            Ok(event) => event.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the reader of events has ended"),
        }
    }

    /// The events that are there already.
    pub(crate) fn arrived(&self) -> impl Iterator<Item = anyhow::Result<String>> {
        self.events.try_iter()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Messages a second.
///
/// # Errors
/// If the time was too short to tell.
pub(crate) fn rate(messages: usize, took: Duration) -> anyhow::Result<f64> {
    anyhow::ensure!(
        took >= SHORTEST,
        "the last {messages} events came within {} ms: too few messages to tell a rate",
        took.as_millis()
    );
    #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
    let messages = messages as f64;
    Ok(messages / took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_no_rate() {
        assert!(rate(4_500, Duration::from_millis(11)).is_err());
        assert!(rate(0, Duration::ZERO).is_err());
        let told = rate(4_500, Duration::from_secs(2)).expect("long enough");
        assert!((told - 2_250.0).abs() < 1e-9, "{told}");
    }
}
