//! Looks after the dependencies: waits for them at the start, and tells health how they are.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::retry;
use tokio_util::sync::CancellationToken;

use super::topics::Missing;
use super::{Error, connect, rights};
use crate::config::Config;
use crate::kafka::{self, Admin, Consumer, Disposition};
use crate::store::{self, Store};
use crate::telemetry::Status;
use crate::telemetry::health::{BrokerCount, Dependency, DependencyState};
use crate::worker::Waker;

/// The longest pause between two tries at the start.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How often the dependencies are asked how they are: health shows a change within a second.
const EVERY: Duration = Duration::from_millis(900);

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

/// Tells health how Postgres, the brokers and the group are, until it is stopped.
pub(super) async fn watch(
    store: Store,
    admin: Admin,
    consumer: Arc<Consumer>,
    status: Status,
    stop: CancellationToken,
) {
    let group = status.snapshot().group.id;
    tokio::join!(
        repeat(&stop, || async {
            match store.ping().await {
                Ok(()) => status.set_dependency(Dependency::Database, DependencyState::Up),
                Err(error) => down(&status, Dependency::Database, &error),
            }
        }),
        repeat(&stop, || async {
            match admin.cluster().await {
                Ok((brokers, _)) => {
                    let known = u32::try_from(brokers.len()).unwrap_or(u32::MAX);
                    status.set_brokers(BrokerCount {
                        known,
                        reachable: known,
                    });
                    status.set_dependency(Dependency::Kafka, DependencyState::Up);
                }
                Err(error) => {
                    let known = status.snapshot().brokers.known;
                    status.set_brokers(BrokerCount {
                        known,
                        reachable: 0,
                    });
                    down(&status, Dependency::Kafka, &error);
                }
            }
        }),
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

/// Rings the bells of partitions whose waiting causes another host made due.
pub(super) async fn listen(store: Store, waker: Waker, group: String, stop: CancellationToken) {
    let forever = async {
        loop {
            match listen_once(&store, &waker, &group).await {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "not listening for wakes; due times do"),
            }
            tokio::time::sleep(BACKOFF_MAX).await;
        }
    };
    stop.run_until_cancelled(forever).await;
}

async fn listen_once(store: &Store, waker: &Waker, group: &str) -> Result<(), store::Error> {
    let mut listener = store.listen().await?;
    loop {
        let key = listener.next().await?;
        if &*key.group == group {
            waker.poke(&key.partition);
        }
    }
}
