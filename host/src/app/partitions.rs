//! Makes the history's partitions ahead.

use std::time::Duration;

use crate::store::Store;

/// How often it is looked whether one is missing: they are made months ahead.
const EVERY: Duration = Duration::from_secs(3600);

/// How soon it is tried again after a failure.
const AGAIN: Duration = Duration::from_secs(60);

/// Looks again and again.
pub(super) async fn make_ahead(store: Store) {
    loop {
        let pause = match store.make_partitions().await {
            Ok(made) => {
                for table in made.into_iter().flatten() {
                    tracing::info!(table, "a partition of the history is made");
                }
                EVERY
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "the history's partitions can't be made ahead: run `taskhost migrate` as the user who owns the tables"
                );
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}
