//! The start: part by part, each once those are there that it needs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::identity::host_name;
use super::parts::Parts;
use super::running::Running;
use super::settings::{batches_at_once, kafka_settings, rules};
use super::topics::consumed;
use super::{Error, ensure, held, observe, plugins, tasks, waiting};
use crate::admin::Desk;
use crate::background::Background;
use crate::breakers::dependencies::Breakers;
use crate::breakers::routes::{RouteBreakers, Told};
use crate::breakers::{self, orders};
use crate::config::Config;
use crate::config::kafka::Delivery;
use crate::kafka::{self, Admin, Assignment, Consumer, Following, KafkaLog, Limits, Settings};
use crate::log::{Ownership, Publisher};
use crate::shared::{Gate, Places, Purity, Shared, Waker};
use crate::store::Store;
use crate::telemetry::LifeCycle;
use crate::telemetry::{Metrics, Status};

/// How long a question to Kafka's admin interface may take.
const ADMIN_PATIENCE: Duration = Duration::from_secs(10);

/// What is there before the start.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a Config,
    pub(super) status: &'a Status,
    pub(super) metrics: &'a Arc<Metrics>,
    /// Where people's orders are written down, once there is a database.
    pub(super) desk: &'a Desk,
    pub(super) background: &'a Background,
}

pub(super) async fn start(around: Surroundings<'_>) -> Result<Running, Error> {
    let Surroundings {
        config,
        status,
        metrics,
        desk,
        background,
    } = around;
    let settings = kafka_settings(config);
    let admin = Admin::new(&settings, ADMIN_PATIENCE)?;
    let limits = Arc::new(Limits::new());
    let (store, ()) = tokio::try_join!(
        waiting::postgres(config, status),
        ensure::topics(config, &settings, &admin, &limits, status),
    )?;
    desk.open(store.clone());
    let life = LifeCycle::start(
        &settings,
        config.topics.real("taskhost-events"),
        host_name(),
        background,
    )?;
    let (routes_breakers, tripped) = breakers_of_routes(around, &store, &life).await?;
    let breakers = breakers_of_dependencies(around, &store, &life);
    // Taking the transactional ids takes as long as the plugins, and needs none of them.
    let (publisher, following) = publisher(around, &settings, &limits, &breakers)?;
    let (swaps, swapped) = mpsc::channel(held::SWAPS_MAX);
    let observer = plugins_observer(around, &life, &routes_breakers, swaps);
    let catalog = plugins::start(config, &store, observer, background).await?;
    let (consumer, assignments) = join(around, &settings)?;
    following.follow(consumer.clone());
    let (waker, waking) = Waker::new(Arc::new(store.clone()));
    let transactional_ids = to_fence(config, &publisher);
    let shared = Arc::new(Shared {
        ledger: Arc::new(store.clone()),
        log: Arc::new(KafkaLog::new(consumer.clone(), admin.clone(), settings)),
        publisher,
        deciders: catalog.clone(),
        waker,
        breakers,
        routes_breakers,
        health: status.clone(),
        metrics: metrics.clone(),
        places: Places::default(),
        observer: Arc::new(observe::Halts(life.clone())),
        gate: Gate::new(batches_at_once(config)),
        purity: purity(around, &life),
        rules: rules(config, limits, transactional_ids),
    });
    let parts = Parts {
        store,
        admin,
        consumer,
        catalog,
        shared,
    };
    tasks::start_informing(config, &parts, background);
    let inboxes = tasks::Inboxes {
        tripped,
        swapped,
        waking,
    };
    tasks::start_needed(config, &parts, &life, inboxes, background);
    life.tell("host.started", &[("version", env!("CARGO_PKG_VERSION"))]);
    Ok(Running::new(parts, assignments, life))
}

/// Joins the group, and where its assignments come.
fn join(
    around: Surroundings<'_>,
    settings: &Settings,
) -> Result<(Arc<Consumer>, mpsc::UnboundedReceiver<Assignment>), Error> {
    let (assigned, assignments) = mpsc::unbounded_channel();
    let names = consumed(around.config);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ownership = Arc::new(Ownership::new());
    let consumer = Consumer::start(settings, &names, ownership, assigned, around.background)?;
    Ok((Arc::new(consumer), assignments))
}

fn plugins_observer(
    around: Surroundings<'_>,
    life: &LifeCycle,
    breakers: &Arc<RouteBreakers>,
    swaps: mpsc::Sender<String>,
) -> observe::Plugins {
    observe::Plugins {
        status: around.status.clone(),
        metrics: around.metrics.clone(),
        life: life.clone(),
        breakers: breakers.clone(),
        swaps,
    }
}

fn breakers_of_dependencies(
    around: Surroundings<'_>,
    store: &Store,
    life: &LifeCycle,
) -> Arc<Breakers> {
    let (status, metrics) = (around.status.clone(), around.metrics.clone());
    let told = observe::Dependencies::new(store.clone(), status, metrics, life.clone());
    Arc::new(Breakers::new(around.config.kafka.retry_backoff, told))
}

/// The breakers of the routes, and where those that open are told.
async fn breakers_of_routes(
    around: Surroundings<'_>,
    store: &Store,
    life: &LifeCycle,
) -> Result<(Arc<RouteBreakers>, mpsc::Receiver<Told>), Error> {
    let (config, status, metrics) = (around.config, around.status, around.metrics);
    let (teller, tripped) =
        breakers::Teller::new(config, status.clone(), metrics.clone(), life.clone());
    let names = config.routes.iter().map(|route| route.name.as_str());
    let rules = breakers::rules(config);
    let breakers = Arc::new(RouteBreakers::new(rules, names, teller));
    // What a person holds open is open before anything is decided.
    let read = orders::read(store, &breakers);
    read.await.map_err(Error::Store)?;
    Ok((breakers, tripped))
}

fn publisher(
    around: Surroundings<'_>,
    settings: &Settings,
    limits: &Arc<Limits>,
    breakers: &Arc<Breakers>,
) -> Result<(Publisher, Following), Error> {
    let observer = Arc::new(observe::Publishing {
        metrics: around.metrics.clone(),
        status: around.status.clone(),
        breakers: breakers.clone(),
    });
    let (settings, limits) = (settings.clone(), limits.clone());
    Ok(kafka::publisher(
        settings,
        limits,
        observer,
        around.background,
    )?)
}

/// The transactional ids that the next owner of a partition has to fence.
fn to_fence(config: &Config, publisher: &Publisher) -> Vec<String> {
    match config.kafka.delivery {
        Delivery::ExactlyOnce => publisher.transactional_ids().to_vec(),
        // Without transactions nobody ever has to end one.
        Delivery::AtLeastOnce => Vec::new(),
    }
}

/// What decides a sample of the batches again.
fn purity(around: Surroundings<'_>, life: &LifeCycle) -> Arc<Purity> {
    let observer = observe::Impurities {
        status: around.status.clone(),
        life: life.clone(),
    };
    let share = around.config.plugins.purity_sample.0;
    Arc::new(Purity::new(share, around.metrics.clone(), observer))
}
