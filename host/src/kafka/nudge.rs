//! Waking librdkafka's fetchers once partitions are resumed.
//!
//! During a rebalance librdkafka pauses every partition, those that stay included, and resumes them when it is
//! acknowledged. Its thread for a broker isn't told: with nothing to fetch it sleeps for up to a second, and so long
//! would partitions stand still that the rebalance doesn't concern (*measured*: 340 to 910 ms). Any request to that
//! broker wakes it, and once more by its answer. The same goes for a partition that a slow worker had paused.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::consumer::Shared;
use super::error::{Disposition, Error, Result};
use crate::background::{Background, Duty};

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
    /// A thread of its own, because the poll thread must not wait for an answer.
    pub(crate) fn start(shared: &Arc<Shared>, background: &Background) -> Result<Self> {
        // One more waits while one is under way: it comes behind whatever was resumed meanwhile.
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
        // Full: one that waits will do.
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
            tracing::debug!(%error, "fetching goes on within a second");
        }
    }
}
