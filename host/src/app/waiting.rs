//! Waits at the start until Postgres and Kafka are there, and says what keeps them.

use std::time::Duration;

use super::settings::connect;
use super::{Error, rights};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::dependency::Dependency;
use crate::kafka::{self, Disposition, MissingRight};
use crate::store::{self, Store};
use crate::telemetry::Status;
use crate::telemetry::health::DependencyState;

/// The longest pause between two tries at the start.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Why the topics are not as they have to be.
pub(super) enum Missing {
    /// Kafka can't be asked.
    Kafka(kafka::Error),
    /// They are not there.
    Topics(String),
    /// They may not be read, or the group may not be joined.
    Rights(Vec<MissingRight>),
}

impl From<kafka::Error> for Missing {
    fn from(error: kafka::Error) -> Self {
        Self::Kafka(error)
    }
}

/// Connects to Postgres and brings its schema up, however long Postgres takes to come.
pub(super) async fn postgres(config: &Config, status: &Status) -> Result<Store, Error> {
    let store = connect(config)?;
    let mut backoff = Backoff::new(config.kafka.retry_backoff, BACKOFF_MAX);
    loop {
        match store.migrate().await {
            Ok(_) => {
                status.set_dependency(Dependency::Postgres, DependencyState::Up);
                return Ok(store);
            }
            Err(error) if error.disposition() == store::Disposition::Trouble => {
                down(status, Dependency::Postgres, &error);
                tracing::warn!(%error, "waiting for Postgres");
            }
            Err(error) => return Err(Error::Store(error)),
        }
        backoff.pause().await;
    }
}

/// Repeats a step that asks Kafka until it gets an answer.
pub(super) async fn until_kafka_answers<F: Future<Output = Result<(), Missing>>>(
    config: &Config,
    settings: &kafka::Settings,
    status: &Status,
    step: impl Fn() -> F,
) -> Result<(), Error> {
    let mut backoff = Backoff::new(config.kafka.retry_backoff, BACKOFF_MAX);
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
        backoff.pause().await;
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

fn down(status: &Status, dependency: Dependency, error: &impl ToString) {
    status.set_dependency(
        dependency,
        DependencyState::Down {
            reason: error.to_string(),
        },
    );
}
