//! The tasks beside the workers: those that the host can't do without, and those that only inform.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use super::identity::by;
use super::parts::Parts;
use super::{dead_letters, held, history, partitions, probe, rights, topics};
use crate::background::{Background, duties};
use crate::breakers::routes::Told;
use crate::breakers::{orders, rollback};
use crate::config::Config;
use crate::shared;
use crate::telemetry::LifeCycle;

/// What the tasks receive from those that were there before them.
pub(super) struct Inboxes<Waking> {
    /// Breakers of routes that opened.
    pub(super) tripped: mpsc::Receiver<Told>,
    /// Routes whose version was swapped.
    pub(super) swapped: mpsc::Receiver<String>,
    /// What serves the waker.
    pub(super) waking: Waking,
}

/// Tasks without which messages would wait for what never comes.
pub(super) fn start_needed(
    config: &Config,
    parts: &Parts,
    life: &LifeCycle,
    inboxes: Inboxes<impl Future<Output = ()> + Send + 'static>,
    background: &Background,
) {
    let Inboxes {
        tripped,
        swapped,
        waking,
    } = inboxes;
    let shared = &parts.shared;
    let group = config.kafka.group_id.clone();
    background.forever(duties::WAKER, waking);
    let rolling_back = rollback::roll_back(
        parts.catalog.clone(),
        tripped,
        config.kafka.retry_backoff,
        by(),
        shared.metrics.clone(),
        life.clone(),
        background.clone(),
    );
    background.forever(duties::ROLLBACKS, rolling_back);
    let (store, waker) = (parts.store.clone(), shared.waker.clone());
    let releasing = held::release(store, waker, group.clone(), swapped);
    background.forever(duties::HELD, releasing);
    let probing = probe::probe(
        parts.store.clone(),
        parts.admin.clone(),
        shared.breakers.clone(),
        shared.health.clone(),
    );
    background.forever(duties::PROBES, probing);
    let ordered = Arc::new(Notify::new());
    let (store, breakers) = (parts.store.clone(), shared.routes_breakers.clone());
    let (hint, every) = (ordered.clone(), config.plugins.poll_interval);
    background.again(duties::ORDERS, move || {
        orders::follow(store.clone(), breakers.clone(), hint.clone(), every)
    });
    let (store, waker) = (parts.store.clone(), shared.waker.clone());
    let catalog = parts.catalog.clone();
    background.again(duties::HINTS, move || {
        let (store, waker, catalog) = (store.clone(), waker.clone(), catalog.clone());
        probe::listen(store, waker, catalog, ordered.clone(), group.clone())
    });
}

/// Tasks that tell people how things are, or tidy up: each is started again if it fails.
pub(super) fn start_informing(config: &Config, parts: &Parts, background: &Background) {
    let shared = &parts.shared;
    let (admin, consumer) = (parts.admin.clone(), parts.consumer.clone());
    let status = shared.health.clone();
    background.again(duties::GROUP, move || {
        probe::watch_group(admin.clone(), consumer.clone(), status.clone())
    });
    let letters = Arc::new(dead_letters::Parts {
        store: parts.store.clone(),
        group: config.kafka.group_id.clone(),
        status: shared.health.clone(),
        metrics: shared.metrics.clone(),
        settings: config.dead_letters.clone(),
    });
    let counted = letters.clone();
    background.again(duties::COUNTING, move || {
        dead_letters::count(counted.clone())
    });
    background.again(duties::RETENTION, move || {
        dead_letters::trim(letters.clone())
    });
    let store = parts.store.clone();
    background.again(duties::PARTITIONS, move || {
        partitions::make_ahead(store.clone())
    });
    let (store, status) = (parts.store.clone(), shared.health.clone());
    background.again(duties::HISTORY, move || {
        history::watch(store.clone(), status.clone())
    });
    let (admin, needs) = (parts.admin.clone(), topics::needs(config));
    let status = shared.health.clone();
    background.again(duties::RIGHTS, move || {
        rights::watch(admin.clone(), needs.clone(), status.clone())
    });
    let (consumer, places) = (parts.consumer.clone(), shared.places.clone());
    let (metrics, stop) = (shared.metrics.clone(), background.stop_token());
    background.again(duties::LAG, move || {
        let (consumer, places) = (consumer.clone(), places.clone());
        shared::watch_lag(consumer, places, metrics.clone(), stop.clone())
    });
}
