//! Looks after the dependencies while the host runs: probes them for their breakers, asks how the group is, and listens for
//! what other hosts changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::breakers::dependencies::Breakers;
use crate::dependency::Dependency;
use crate::kafka::{Admin, Consumer};
use crate::plugin::Catalog;
use crate::shared::Waker;
use crate::store::{self, Heard, Store};
use crate::telemetry::Status;
use crate::telemetry::health::BrokerCount;
use taskhost_core::breaker::Depth;

/// The pause before listening is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

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

/// Probes Postgres and the brokers for their breakers.
pub(super) async fn probe(store: Store, admin: Admin, breakers: Arc<Breakers>, status: Status) {
    let status = &status;
    tokio::join!(
        breakers.look_after(Dependency::Postgres, |depth| {
            let store = &store;
            async move {
                let found = store.probe(depth).await;
                found.map_err(|error| told(&error))
            }
        }),
        breakers.look_after(Dependency::Kafka, |depth| brokers(&admin, depth, status)),
    );
}

/// Tells health how the group is.
pub(super) async fn watch_group(admin: Admin, consumer: Arc<Consumer>, status: Status) {
    let group = status.snapshot().group.id;
    loop {
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
        tokio::time::sleep(EVERY).await;
    }
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

/// Rings the bells of partitions whose waiting causes another host made due, and takes over what another host or a
/// command activated.
pub(super) async fn listen(
    store: Store,
    waker: Waker,
    catalog: Arc<Catalog>,
    ordered: Arc<Notify>,
    group: String,
) {
    loop {
        match listen_once(&store, &waker, &catalog, &ordered, &group).await {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "not listening for hints; looking now and then")
            }
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
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
