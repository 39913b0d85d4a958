//! The configuration in the words of the parts.

use std::sync::Arc;

use taskhost_core::batch::Deferral;
use taskhost_core::cause::Route;
use taskhost_core::recovery::Reset;

use super::{Error, topics};
use crate::admin;
use crate::config::fixed::{ACQUIRE_TIMEOUT, FRAMES_UNPUBLISHED_MAX, TRANSACTION_BYTES_MAX};
use crate::config::kafka::Delivery;
use crate::config::{Config, ConfigErrors};
use crate::kafka::{self, Limits};
use crate::shared::Rules;
use crate::store::{self, Store};

/// Connections that the API has for dead letters: its requests never take one from a worker.
const API_CONNECTIONS_MAX: u32 = 2;

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
        // A queue that is made smaller holds a whole transaction all the same.
        transaction_bytes_max: bytes(TRANSACTION_BYTES_MAX.min(config.kafka.send_queue_bytes_max)),
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
        schema: database.schema.clone(),
        connections_max: database.pool_max,
        acquire_timeout: ACQUIRE_TIMEOUT,
        statement_timeout: database.statement_timeout,
        lock_timeout: database.lock_timeout,
        prepared: database.prepared_statements,
        application_name: format!("taskhost {}", config.kafka.client_id),
    })
}

/// Dead letters for the API; without a database there are none, and the start says so.
pub(super) fn letters(config: &Config) -> Option<admin::Letters> {
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
pub fn routes(config: &Config) -> Vec<Route> {
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

/// What the workers keep to.
pub(super) fn rules(config: &Config, limits: Arc<Limits>, transactional_ids: Vec<String>) -> Rules {
    use crate::config::kafka::{AutoOffsetReset, Start};
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let letters = |topic: &String| (topic.clone(), config.dead_letter_topic(topic));
    Rules {
        group: config.kafka.group_id.as_str().into(),
        routes: routes(config).into(),
        topics: Arc::new(topics::real_topics(config)),
        limits,
        transactional_ids,
        events_topic: config.topics.real("task-events").into(),
        dead_letter_topics: topics::consumed(config).iter().map(letters).collect(),
        reset: match (config.kafka.start, config.kafka.auto_offset_reset) {
            (Start::Earliest, _) => Reset::Anew,
            (Start::Committed, AutoOffsetReset::Earliest) => Reset::Earliest,
            (Start::Committed, AutoOffsetReset::Latest) => Reset::Latest,
        },
        messages_max: count(config.batch.messages_max),
        bytes_max: bytes(config.batch.bytes_max),
        unpublished_max: FRAMES_UNPUBLISHED_MAX,
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
pub(super) fn batches_at_once(config: &Config) -> usize {
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

/// A size in memory.
fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
