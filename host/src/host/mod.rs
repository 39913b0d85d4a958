//! Puts the parts together from the configuration: `run(config, shutdown)`.
//!
//! ```text
//!   HTTP ─ Postgres, migrated ─ topics ─ publisher, plugins ─ consumer ─ a worker for each assigned partition
//! ```
//!
//! The order is that of the start; what is not there yet is waited for and said (log, `/readyz`), what is
//! wrong stops the start with all its reasons. The end goes the other way, once a rebalance that is under way is over:
//! workers finish the batch in hand and publish it, the publisher drains, the consumer leaves the group.

mod dead_letters;
mod history;
mod life;
mod observe;
mod plugins;
mod probe;
mod rights;
mod route_breakers;
mod running;
mod topics;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use taskhost_core::batch::Deferral;
use taskhost_core::cause::Route;
use taskhost_core::recovery::Reset;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::breaker::Breakers;
use crate::config::kafka::Delivery;
use crate::config::{Config, ConfigErrors};
use crate::kafka::{self, Admin, Consumer, Limits, Ownership, Publisher};
use crate::route_breaker::RouteBreakers;
use crate::shared::{self, Gate, Places, Purity, Rules, Shared, Waker};
use crate::store::{self, Store};
use crate::telemetry::{Metrics, Status};
use life::LifeCycle;
use running::Running;

pub use history::shown;
pub use plugins::catalog;
pub use topics::{consumed, needs, produced};

/// How long the workers may take to finish and publish: with what follows below the 10 s that orchestrators give.
const WORKERS_PATIENCE: Duration = Duration::from_secs(5);

/// How long the publisher and the consumer may each take to end.
const CLIENTS_PATIENCE: Duration = Duration::from_secs(2);

/// How long a question to Kafka's admin interface may take.
const ADMIN_PATIENCE: Duration = Duration::from_secs(10);

/// Why the host can't start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// Another process has the address, or it is none of this machine's.
    #[error("can't listen on {address}: {source}; set HTTP_ADDR to another address")]
    Listen {
        /// The configured address.
        address: std::net::SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Postgres refuses for a reason that waiting doesn't mend.
    #[error("postgres: {0}")]
    Store(store::Error),
    /// Kafka refuses for a reason that waiting doesn't mend.
    #[error("kafka: {0}")]
    Kafka(#[from] kafka::Error),
    /// Topics are missing and can't be made.
    #[error("{0}")]
    Topics(String),
    /// Routes have no plugin that could decide.
    #[error("{0}")]
    Plugins(String),
}

/// Kafka's settings, as the clients take them.
pub fn kafka_settings(config: &Config) -> kafka::Settings {
    let owned = |list: Vec<(&'static str, String)>| {
        list.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    };
    kafka::Settings {
        client: owned(crate::config::kafka::client_properties(&config.kafka)),
        consumer: owned(crate::config::kafka::consumer_properties(&config.kafka)),
        producer: owned(crate::config::kafka::producer_properties(&config.kafka)),
        group: config.kafka.group_id.clone(),
        transactional_prefix: config.kafka.transactional_prefix().to_owned(),
        at_least_once: config.kafka.delivery == Delivery::AtLeastOnce,
        transaction_bytes_max: usize::try_from(config.batch.transaction_bytes_max)
            .unwrap_or(usize::MAX),
    }
}

/// Postgres' settings.
///
/// # Errors
/// If no database is configured.
pub fn store_settings(config: &Config) -> Result<store::Settings, ConfigErrors> {
    let database = &config.database;
    Ok(store::Settings {
        url: config.database_url()?.expose().to_owned(),
        connections_max: database.pool_max,
        acquire_timeout: database.acquire_timeout,
        statement_timeout: database.statement_timeout,
        lock_timeout: database.lock_timeout,
        prepared: database.prepared_statements,
        application_name: format!("taskhost {}", config.kafka.client_id),
    })
}

/// Runs the host until `shutdown`. `ready` is told the HTTP address once everything is there and the group
/// is being joined; the API answers before, and says what is missing.
///
/// # Errors
/// Why it can't start, or had to end.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
    ready: impl FnOnce(std::net::SocketAddr) + Send,
) -> Result<(), Error> {
    let status = Status::new(&config.kafka.group_id, &config.routes);
    let metrics = Arc::new(Metrics::new());
    topics::declare(&config, &metrics);
    let address = config.http.addr;
    let listen = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    tracing::info!(%address, "the HTTP API answers");
    let stop = CancellationToken::new();
    let desk = admin::Desk::default();
    let router = admin::router(admin::State {
        status: status.clone(),
        metrics: metrics.clone(),
        desk: desk.clone(),
        letters: letters(&config),
    });
    let http = tokio::spawn(admin::serve(
        listener,
        router,
        stop.clone().cancelled_owned(),
    ));

    tokio::pin!(shutdown);
    let started = tokio::select! {
        biased;
        () = &mut shutdown => None,
        started = start(&config, &status, &metrics, &desk, &stop) => Some(started?),
    };
    let result = match started {
        None => Ok(()),
        Some(mut running) => {
            ready(address);
            let result = running.serve(&mut shutdown).await;
            status.set_stopping();
            running.end().await;
            result
        }
    };
    stop.cancel();
    let _ = tokio::time::timeout(CLIENTS_PATIENCE, http).await;
    result
}

async fn start(
    config: &Config,
    status: &Status,
    metrics: &Arc<Metrics>,
    desk: &admin::Desk,
    stop: &CancellationToken,
) -> Result<Running, Error> {
    let settings = kafka_settings(config);
    let admin = Admin::new(&settings, ADMIN_PATIENCE)?;
    let limits = Arc::new(Limits::new());
    let (store, ()) = tokio::try_join!(
        probe::postgres(config, status),
        topics::ensure(config, &settings, &admin, &limits, status),
    )?;
    desk.open(store.clone());
    let life = LifeCycle::start(&settings, config.topics.real("taskhost-events"))?;
    let (teller, tripped) =
        route_breakers::Teller::new(config, status.clone(), metrics.clone(), life.clone());
    let names = config.routes.iter().map(|route| route.name.as_str());
    let routes_breakers = Arc::new(RouteBreakers::new(
        route_breakers::rules(config),
        names,
        teller,
    ));
    // What a person holds open is open before anything is decided.
    let read = route_breakers::read_orders(&store, &routes_breakers);
    read.await.map_err(Error::Store)?;
    let (swaps, swapped) = mpsc::channel(route_breakers::SWAPS_MAX);
    let observer = observe::Plugins {
        status: status.clone(),
        metrics: metrics.clone(),
        life: life.clone(),
        breakers: routes_breakers.clone(),
        swaps,
    };
    let breakers = Arc::new(Breakers::new(
        config.kafka.retry_backoff,
        observe::Dependencies::new(store.clone(), status.clone(), metrics.clone(), life.clone()),
    ));
    // Taking the transactional ids takes as long as the plugins, and needs none of them.
    let publisher = Publisher::start(
        settings.clone(),
        limits.clone(),
        Arc::new(observe::Publishing {
            metrics: metrics.clone(),
            status: status.clone(),
            breakers: breakers.clone(),
        }),
    )?;
    let catalog = plugins::start(config, &store, observer, stop).await?;

    let (assigned, assignments) = mpsc::unbounded_channel();
    let names = topics::consumed(config);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let consumer = Arc::new(Consumer::start(
        &settings,
        &names,
        Arc::new(Ownership::new()),
        assigned,
    )?);
    publisher.follow(consumer.clone());
    let (waker, waking) = Waker::new(store.clone());
    let places = Places::default();
    tokio::spawn(waking);
    tokio::spawn(route_breakers::roll_back(
        catalog.clone(),
        tripped,
        config.kafka.retry_backoff,
        metrics.clone(),
        life.clone(),
        stop.clone(),
    ));
    tokio::spawn(route_breakers::release_held(
        store.clone(),
        waker.clone(),
        config.kafka.group_id.clone(),
        swapped,
        stop.clone(),
    ));
    let ordered = Arc::new(tokio::sync::Notify::new());
    tokio::spawn(route_breakers::follow_orders(
        store.clone(),
        routes_breakers.clone(),
        ordered.clone(),
        config.plugins.poll_interval,
        stop.clone(),
    ));
    tokio::spawn(probe::listen(
        store.clone(),
        waker.clone(),
        catalog.clone(),
        ordered,
        config.kafka.group_id.clone(),
        stop.clone(),
    ));
    tokio::spawn(probe::watch(
        store.clone(),
        admin.clone(),
        consumer.clone(),
        breakers.clone(),
        status.clone(),
        stop.clone(),
    ));
    let letters = dead_letters::Parts {
        store: store.clone(),
        group: config.kafka.group_id.clone(),
        status: status.clone(),
        metrics: metrics.clone(),
        settings: config.dead_letters.clone(),
    };
    tokio::spawn(dead_letters::watch(letters, stop.clone()));
    tokio::spawn(history::watch(store.clone(), status.clone(), stop.clone()));
    tokio::spawn(rights::watch(
        admin.clone(),
        topics::needs(config),
        status.clone(),
        stop.clone(),
    ));
    tokio::spawn(shared::watch_lag(
        consumer.clone(),
        places.clone(),
        metrics.clone(),
        stop.clone(),
    ));
    // Without transactions nobody ever has to end one.
    let transactional_ids = match config.kafka.delivery {
        Delivery::ExactlyOnce => publisher.transactional_ids().to_vec(),
        Delivery::AtLeastOnce => Vec::new(),
    };
    let shared = Shared {
        store,
        consumer,
        publisher,
        admin,
        catalog,
        routes: routes(config).into(),
        topics: Arc::new(real_topics(config)),
        limits,
        kafka: settings,
        transactional_ids,
        waker,
        breakers,
        routes_breakers,
        health: status.clone(),
        metrics: metrics.clone(),
        places,
        observer: Arc::new(observe::Halts(life.clone())),
        gate: Gate::new(batches_at_once(config)),
        purity: Arc::new(Purity::new(
            config.plugins.purity_sample.0,
            metrics.clone(),
            observe::Impurities {
                status: status.clone(),
                life: life.clone(),
            },
        )),
        rules: rules(config),
    };
    life.tell("host.started", &[("version", env!("CARGO_PKG_VERSION"))]);
    Ok(Running::new(Arc::new(shared), assignments, life))
}

/// Connections that the API has for dead letters: its requests never take one from a worker.
const API_CONNECTIONS_MAX: u32 = 2;

/// Dead letters for the API; without a database there are none, and the start says so.
fn letters(config: &Config) -> Option<admin::Letters> {
    let mut settings = store_settings(config).ok()?;
    settings.connections_max = API_CONNECTIONS_MAX;
    settings.application_name = format!("{} api", settings.application_name);
    Some(admin::Letters {
        store: Store::connect(&settings).ok()?,
        group: config.kafka.group_id.as_str().into(),
        routes: routes(config).into(),
        replays_max: config.dead_letters.replays_max,
    })
}

/// The routes in core's words.
pub(crate) fn routes(config: &Config) -> Vec<Route> {
    let route = |route: &crate::config::Route| Route {
        name: route.name.clone(),
        logical_topic: route.topic.clone(),
        topic: route.real_topic.clone(),
        task_type: route.task_type.clone(),
        default_task_type: route.default_task_type.clone(),
        on_dead_letter: route.on_dead_letter,
    };
    config.routes.iter().map(route).collect()
}

/// Real names of every logical topic that can be sent to. A consumed topic can be, too.
fn real_topics(config: &Config) -> BTreeMap<String, String> {
    let configured = config
        .topics
        .iter()
        .map(|(logical, real)| (logical.to_owned(), real.to_owned()));
    let routed = config
        .routes
        .iter()
        .map(|route| (route.topic.clone(), route.real_topic.clone()));
    configured.chain(routed).collect()
}

fn rules(config: &Config) -> Rules {
    use crate::config::kafka::{AutoOffsetReset, Start};
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let letters = |topic: &String| (topic.clone(), config.dead_letter_topic(topic));
    Rules {
        group: config.kafka.group_id.as_str().into(),
        events_topic: config.topics.real("task-events").into(),
        dead_letter_topics: topics::consumed(config).iter().map(letters).collect(),
        reset: match (config.kafka.start, config.kafka.auto_offset_reset) {
            (Start::Earliest, _) => Reset::Anew,
            (Start::Committed, AutoOffsetReset::Earliest) => Reset::Earliest,
            (Start::Committed, AutoOffsetReset::Latest) => Reset::Latest,
        },
        messages_max: count(config.batch.messages_max),
        bytes_max: size(config.batch.bytes_max),
        unpublished_max: count(config.batch.frames_unpublished_max),
        retries_max: config.kafka.max_retry_attempts,
        backoff: config.kafka.retry_backoff,
        spring_headers: config.dead_letters.spring_headers,
        replays_max: config.dead_letters.replays_max,
        deferral: Deferral {
            attempts_max: config.deferral.attempts_max,
            age_max: config.deferral.age_max,
            delay_min: config.deferral.delay_min,
            delay_max: config.deferral.delay_max,
        },
    }
}

/// How many batches are in hand at once: as many as the machine has cores, unless it is configured.
fn batches_at_once(config: &Config) -> usize {
    match config.batch.at_once_max {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        configured => usize::try_from(configured).unwrap_or(usize::MAX),
    }
}

/// Connects lazily; nothing is sent before the first question.
///
/// # Errors
/// If the URL is none.
pub fn connect(config: &Config) -> Result<Store, Error> {
    Store::connect(&store_settings(config)?).map_err(Error::Store)
}
