//! What a rollback held, made due at once when another version decides.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::clock;
use crate::shared::Waker;
use crate::store::{self, Store};

/// Swaps that may wait until what is held on their routes is due.
pub(super) const SWAPS_MAX: usize = 1000;

/// The longest pause between two tries while the database is away.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Makes what is held due at once when another version decides.
pub(super) async fn release(
    store: Store,
    waker: Waker,
    group: String,
    mut swapped: mpsc::Receiver<String>,
) {
    while let Some(route) = swapped.recv().await {
        let failed = |error: &store::Error| {
            tracing::debug!(route, %error, "what is held can't be made due now; trying again");
        };
        Backoff::new(BACKOFF_MAX, BACKOFF_MAX)
            .until_done(failed, || release_once(&store, &waker, &group, &route))
            .await;
    }
}

async fn release_once(
    store: &Store,
    waker: &Waker,
    group: &str,
    route: &str,
) -> Result<(), store::Error> {
    let woken = store.release_held(group, route, clock::now()).await?;
    for key in &woken {
        waker.poke(&key.partition);
    }
    store.notify(&woken).await
}
