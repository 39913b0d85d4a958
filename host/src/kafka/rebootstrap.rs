//! Reconnects a client that has lost all its brokers.
//!
//! A broker that comes back answers before its cluster has admitted it again, and its answer then contains no broker.
//! librdkafka (from 2.10 on, librdkafka#5301) then drops every broker that it knew, also those of `bootstrap.servers`.
//! Without a broker to ask, it never asks again. *Measured*: of five hosts whose only broker was frozen for 5 s, three never
//! reconnected. So each long-lived client is asked for its brokers at intervals. Without an answer it gets
//! `bootstrap.servers` again.

use std::convert::Infallible;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::Client;

use super::context::Logging;
use super::ffi::brokers;
use crate::background::{Background, Duty};

/// The thread that watches.
const WATCH: Duty = Duty {
    name: "kafka-watch",
    without: "a client doesn't find brokers that all came back at other addresses",
};

/// How often a client is asked while it has brokers: rarely, because an idle host should use almost nothing.
const EVERY: Duration = Duration::from_secs(10);

/// How long it may take to answer.
const PATIENCE_MS: i32 = 1000;

/// The pause after a first question without an answer, and the longest pause: each time brokers are added, librdkafka keeps
/// their names forever.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_LAST: Duration = EVERY;

/// The watch over one client. It ends with this value.
#[derive(Debug)]
pub(crate) struct Rebootstrap {
    has_lost: Arc<AtomicBool>,
    _ended: Sender<Infallible>,
}

impl Rebootstrap {
    /// Watches a client in its own thread, which the client's user may block for a long time.
    pub(crate) fn watch<T: Send + Sync + 'static>(
        owner: &Arc<T>,
        client: fn(&T) -> &Client<Logging>,
        config: &ClientConfig,
    ) -> Self {
        let (ended, end) = channel();
        let has_lost = Arc::new(AtomicBool::new(false));
        let servers = config.get("bootstrap.servers").map(CString::new);
        if let Some(Ok(servers)) = servers {
            let (owner, has_lost) = (Arc::downgrade(owner), Arc::clone(&has_lost));
            // Clients of commands have no supervisor, and those of the host do without this one's report.
            let thread = Background::unsupervised().thread_again(WATCH, move || {
                run(&owner, &end, client, |client| {
                    has_lost.store(true, Ordering::Relaxed);
                    brokers::add(client, &servers);
                });
            });
            if let Err(error) = thread {
                tracing::warn!(%error, "the thread that watches a Kafka client can't be started");
            }
        }
        Self {
            has_lost,
            _ended: ended,
        }
    }

    /// Whether no broker answered for a while, so that the client got its bootstrap brokers again.
    pub(crate) fn has_lost_brokers(&self) -> bool {
        self.has_lost.load(Ordering::Relaxed)
    }
}

fn run<T>(
    owner: &Weak<T>,
    end: &Receiver<Infallible>,
    client: fn(&T) -> &Client<Logging>,
    lost: impl Fn(&Client<Logging>),
) {
    let mut unanswered = 0;
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(pause(unanswered)) {
        let Some(owner) = owner.upgrade() else {
            return;
        };
        let client = client(&owner);
        if brokers::answer(client, PATIENCE_MS) {
            unanswered = 0;
            continue;
        }
        unanswered += 1;
        if unanswered > 1 {
            tracing::debug!(
                unanswered,
                "a Kafka client gets its bootstrap brokers again"
            );
            lost(client);
        }
    }
}

fn pause(unanswered: u32) -> Duration {
    match unanswered.checked_sub(1) {
        None => EVERY,
        Some(doublings) => AGAIN_FIRST
            .saturating_mul(1 << doublings.min(10))
            .min(AGAIN_LAST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_an_answer_is_asked_again_soon_and_then_ever_less() {
        let seconds = |unanswered| pause(unanswered).as_secs();
        assert_eq!([0, 1, 2, 4, 5, 99].map(seconds), [10, 1, 2, 8, 10, 10]);
    }
}
