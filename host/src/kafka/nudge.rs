//! Wakes librdkafka's fetchers once partitions are resumed.
//!
//! During a rebalance librdkafka pauses every partition, also those that stay, and resumes them when the rebalance is
//! acknowledged. It doesn't wake its thread for a broker: without anything to fetch, that thread sleeps for up to a second.
//! So long would the kept partitions be idle (*measured*: 340 to 910 ms). Any request to that broker wakes the thread, and so
//! does the answer. The same applies to a partition that a slow worker had paused.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::membership::Shared;
use crate::background::{Background, Duty};
use crate::log::{Disposition, Error, Result};

/// The thread that asks.
const NUDGE: Duty = Duty {
    name: "kafka-nudge",
    without: "partitions stand still for up to a second at each rebalance",
};

/// How long an answer is waited for. Only its coming counts, and a fetcher sleeps no longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks for it. The thread behind it ends with this value.
#[derive(Debug)]
pub(crate) struct Nudge(SyncSender<()>);

impl Nudge {
    /// Starts a separate thread, because the poll thread must not wait for an answer.
    pub(crate) fn start(shared: &Arc<Shared>, background: &Background) -> Result<Self> {
        // One more request waits while one is running: it covers partitions that were resumed meanwhile.
        let (sender, asked) = sync_channel(1);
        let shared = Arc::downgrade(shared);
        background
            .thread_again(NUDGE, move || serve(&shared, &asked))
            .map_err(|error| {
                Error::new(
                    "starting the consumer",
                    Disposition::Fatal,
                    error.to_string(),
                )
            })?;
        Ok(Self(sender))
    }

    /// Partitions were resumed.
    pub(crate) fn fetchers(&self) {
        // Full: the waiting request is enough.
        let _ = self.0.try_send(());
    }
}

fn serve(shared: &Weak<Shared>, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let client = shared.polled.client();
        let asked = client.assignment().and_then(|mut list| {
            list.set_all_offsets(Offset::End)?;
            match list.count() {
                0 => Ok(()),
                _ => client.offsets_for_times(list, PATIENCE).map(drop),
            }
        });
        if let Err(error) = asked {
            tracing::debug!(%error, "the fetchers can't be woken; they go on within a second");
        }
    }
}
