//! Pauses between tries of something that may be away, with full jitter: each longer than the one before, up to a bound.

use std::time::Duration;

use taskhost_core::retry;

use crate::chance;

/// What is tried, and how often it was.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
    longest: Duration,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(base: Duration, longest: Duration) -> Self {
        Self {
            base,
            longest,
            attempt: 0,
        }
    }

    /// Waits before the next try.
    pub(crate) async fn pause(&mut self) {
        let pause = retry::full_jitter(self.base, self.attempt, self.longest, chance::share());
        self.attempt = self.attempt.saturating_add(1);
        tokio::time::sleep(pause).await;
    }

    /// Tries until it works; `failed` is told of each try that doesn't.
    pub(crate) async fn until_done<E, F: Future<Output = Result<(), E>>>(
        mut self,
        failed: impl Fn(&E),
        attempt: impl Fn() -> F,
    ) {
        while let Err(error) = attempt().await {
            failed(&error);
            self.pause().await;
        }
    }
}
