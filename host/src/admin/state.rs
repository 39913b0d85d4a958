//! What the answers are made from.

use std::sync::{Arc, OnceLock};

use taskhost_core::cause::Route;

use crate::store::Store;
use crate::telemetry::{Metrics, Status};

/// The sources of the API's answers.
#[derive(Clone, Debug)]
pub struct State {
    /// The host's health.
    pub status: Status,
    /// The host's metrics.
    pub metrics: Arc<Metrics>,
    /// The receiver of orders to breakers.
    pub desk: Desk,
    /// Dead letters; none without a configured database.
    pub letters: Option<Letters>,
}

/// The store of orders, once the host is connected to it.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<OnceLock<Store>>);

impl Desk {
    /// Postgres is connected: orders can be stored.
    pub fn open(&self, store: Store) {
        // It is set only once.
        let _ = self.0.set(store);
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.0.get()
    }
}

/// The sources of the answers about dead letters.
#[derive(Clone, Debug)]
pub struct Letters {
    /// Postgres, over separate connections.
    pub store: Store,
    /// The consumer group.
    pub group: Arc<str>,
    /// The routes, to check an edited payload against.
    pub routes: Arc<[Route]>,
    /// How often a dead letter is replayed before it is parked.
    pub replays_max: u32,
}
