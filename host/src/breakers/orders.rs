//! People's orders on their way to the routes' breakers.

use std::sync::Arc;
use std::time::Duration;

use super::routes::RouteBreakers;
use crate::store::{self, Store};

/// Carries people's orders out, as soon as they are heard of and now and then.
pub(crate) async fn follow(
    store: Store,
    breakers: Arc<RouteBreakers>,
    hint: Arc<tokio::sync::Notify>,
    every: Duration,
) {
    loop {
        let _ = tokio::time::timeout(every, hint.notified()).await;
        if let Err(error) = read(&store, &breakers).await {
            tracing::debug!(%error, "people's orders to breakers can't be read now");
        }
    }
}

/// Reads the last orders and carries out those that are new.
pub(crate) async fn read(store: &Store, breakers: &RouteBreakers) -> Result<(), store::Error> {
    for order in store.breaker_orders().await? {
        breakers.ordered(&order);
    }
    Ok(())
}
