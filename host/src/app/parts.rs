//! What a host consists of.

use std::sync::Arc;

use crate::kafka::{Admin, Consumer};
use crate::plugin::Catalog;
use crate::shared::Shared;
use crate::store::Store;

/// What a host consists of, once it has started.
pub(super) struct Parts {
    /// Postgres.
    pub(super) store: Store,
    /// Kafka's answers about topics and groups.
    pub(super) admin: Admin,
    /// The group's consumer.
    pub(super) consumer: Arc<Consumer>,
    /// The current plugin of each route.
    pub(super) catalog: Arc<Catalog>,
    /// What the workers share.
    pub(super) shared: Arc<Shared>,
}
