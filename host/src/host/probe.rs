//! Looks after the dependencies: waits for them at the start, and probes them for their breakers from then on.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::retry;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::topics::Missing;
use super::{Error, connect, rights};
use crate::breaker::{self, Breakers, Depth};
use crate::config::Config;
use crate::kafka::{self, Admin, Consumer, Disposition};
use crate::plugin::Catalog;
use crate::shared::Waker;
use crate::store::{self, Heard, Store};
use crate::telemetry::Status;
use crate::telemetry::health::{BrokerCount, Dependency, DependencyState};

/// The longest pause between two tries at the start.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How often the group is asked how it is: health shows a change within a second.
const EVERY: Duration = Duration::from_millis(900);

/// How long the brokers may take to answer a probe. When a connection broke, health is to show within a second whether all
/// of them are away; frozen ones are noticed a little later. Once they are away the question may wait for their return:
/// brokers that are merely slow are back with their answer.
fn kafka_patience(depth: Depth) -> Duration {
    match depth {
        Depth::Suspicion => Duration::from_millis(750),
        Depth::Light => Duration::from_millis(1500),
        Depth::Recovery => Duration::from_secs(5),
    }
}

/// Connects to Postgres and brings its schema up, however long Postgres takes to come.
pub(super) async fn postgres(config: &Config, status: &Status) -> Result<Store, Error> {
    let store = connect(config)?;
    let mut attempt = 0;
    loop {
        match store.migrate().await {
            Ok(_) => {
                status.set_dependency(Dependency::Database, DependencyState::Up);
                return Ok(store);
            }
            Err(error) if error.disposition() == store::Disposition::Trouble => {
                down(status, Dependency::Database, &error);
                tracing::warn!(%error, "waiting for Postgres");
            }
            Err(error) => return Err(Error::Store(error)),
        }
        pause(config, &mut attempt).await;
    }
}

/// Repeats a step that asks Kafka until it gets an answer.
pub(super) async fn until_kafka_answers<F: Future<Output = Result<(), Missing>>>(
    config: &Config,
    settings: &kafka::Settings,
    status: &Status,
    step: impl Fn() -> F,
) -> Result<(), Error> {
    let mut attempt = 0;
    loop {
        match step().await {
            Ok(()) => {
                status.set_dependency(Dependency::Kafka, DependencyState::Up);
                status.set_trouble("rights", None);
                return Ok(());
            }
            Err(Missing::Rights(missing)) => {
                status.set_dependency(Dependency::Kafka, DependencyState::Up);
                let reason = rights::told(&missing);
                if status.set_trouble("rights", Some(reason.clone())) {
                    tracing::error!("rights are missing: {reason}");
                }
            }
            Err(Missing::Topics(reason)) => return Err(Error::Topics(reason)),
            Err(Missing::Kafka(error)) => match error.disposition() {
                // A password or a right can be put right on the broker's side, without a restart here.
                Disposition::Trouble | Disposition::UnknownTopic | Disposition::Authorization => {
                    let reason = why(settings, &error, config).await;
                    down(status, Dependency::Kafka, &reason);
                    tracing::warn!(reason, "waiting for Kafka");
                }
                _ => return Err(error.into()),
            },
        }
        pause(config, &mut attempt).await;
    }
}

/// What keeps the host from the cluster: librdkafka's answer to a question rarely says it.
async fn why(settings: &kafka::Settings, error: &kafka::Error, config: &Config) -> String {
    let (settings, patience) = (settings.clone(), config.kafka.connection_timeout);
    let asked = tokio::task::spawn_blocking(move || kafka::diagnose(&settings, patience)).await;
    match asked {
        Ok(Err(diagnosis)) => diagnosis.to_string(),
        _ => error.to_string(),
    }
}

async fn pause(config: &Config, attempt: &mut u32) {
    let base = config.kafka.retry_backoff;
    tokio::time::sleep(retry::full_jitter(
        base,
        *attempt,
        BACKOFF_MAX,
        rand::random(),
    ))
    .await;
    *attempt = attempt.saturating_add(1);
}

fn down(status: &Status, dependency: Dependency, error: &impl ToString) {
    status.set_dependency(
        dependency,
        DependencyState::Down {
            reason: error.to_string(),
        },
    );
}

/// Probes Postgres and the brokers for their breakers, and tells health how the group is, until it is stopped.
pub(super) async fn watch(
    store: Store,
    admin: Admin,
    consumer: Arc<Consumer>,
    breakers: Arc<Breakers>,
    status: Status,
    stop: CancellationToken,
) {
    let group = status.snapshot().group.id;
    let status = &status;
    let probing = async {
        tokio::join!(
            breakers.look_after(breaker::Name::Postgres, |depth| {
                let store = &store;
                async move {
                    let found = store.probe(depth).await;
                    found.map_err(|error| told(&error))
                }
            }),
            breakers.look_after(breaker::Name::Kafka, |depth| brokers(&admin, depth, status)),
        )
    };
    tokio::join!(
        stop.run_until_cancelled(probing),
        repeat(&stop, || async {
            let joined = consumer.is_member();
            match admin.group(&group).await {
                Ok(found) => {
                    let members = u32::try_from(found.members.len()).ok();
                    status.set_group(found.state, members, joined);
                    if joined {
                        if status.set_trouble("group", None) {
                            tracing::info!("nothing keeps this host from the group any more");
                        }
                    } else if let Some(reason) = found.other_consumer(&group)
                        // Its members say who it is; the error that joining gave doesn't.
                        && status.set_trouble("group", Some(reason.clone()))
                    {
                        tracing::error!("the group can't be joined: {reason}");
                    }
                }
                Err(_) => status.set_group("unknown", None, joined),
            }
        }),
    );
}

/// Asks for the brokers and counts them.
async fn brokers(admin: &Admin, depth: Depth, status: &Status) -> Result<(), String> {
    let answer = admin.with_patience(kafka_patience(depth)).cluster().await;
    let known = match &answer {
        Ok((brokers, _)) => u32::try_from(brokers.len()).unwrap_or(u32::MAX),
        Err(_) => status.snapshot().brokers.known,
    };
    let reachable = if answer.is_ok() { known } else { 0 };
    status.set_brokers(BrokerCount { known, reachable });
    answer.map(drop).map_err(|error| error.to_string())
}

/// An error with its causes, for people. No message of the store names a URL or a password.
fn told(error: &store::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| {
        let cause = cause.to_string();
        // Some errors say their cause themselves.
        match told.ends_with(&cause) {
            true => told,
            false => format!("{told}: {cause}"),
        }
    })
}

/// Does something again and again, with a pause after each time.
async fn repeat<F: Future<Output = ()>>(stop: &CancellationToken, something: impl Fn() -> F) {
    let forever = async {
        loop {
            something().await;
            tokio::time::sleep(EVERY).await;
        }
    };
    stop.run_until_cancelled(forever).await;
}

/// Rings the bells of partitions whose waiting causes another host made due, and takes over what another host or a
/// command activated.
pub(super) async fn listen(
    store: Store,
    waker: Waker,
    catalog: Arc<Catalog>,
    ordered: Arc<Notify>,
    group: String,
    stop: CancellationToken,
) {
    let forever = async {
        loop {
            match listen_once(&store, &waker, &catalog, &ordered, &group).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%error, "not listening for hints; looking now and then")
                }
            }
            tokio::time::sleep(BACKOFF_MAX).await;
        }
    };
    stop.run_until_cancelled(forever).await;
}

async fn listen_once(
    store: &Store,
    waker: &Waker,
    catalog: &Catalog,
    ordered: &Notify,
    group: &str,
) -> Result<(), store::Error> {
    let mut listener = store.listen().await?;
    loop {
        match listener.next().await? {
            Heard::Due(key) if &*key.group == group => waker.poke(&key.partition),
            Heard::Due(_) => {}
            Heard::Ordered => ordered.notify_one(),
            Heard::Activated { route } => {
                if catalog.number_of(&route).is_some() {
                    catalog.hint();
                }
            }
        }
    }
}
