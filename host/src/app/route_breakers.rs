//! What follows when the breaker of a route changes: it is told, and a version on probation is rolled back. And people's
//! orders on their way to the breakers.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::retry;
use taskhost_core::route_breaker::Rules;
use taskhost_core::timestamp;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::duties::ROLLBACKS;
use super::life::LifeCycle;
use super::name::by;
use crate::background::Background;
use crate::breakers::routes::{Observer, RouteBreakers, State, Told, Why};
use crate::config::Config;
use crate::config::fixed::{BREAKER_PERCENT, BREAKER_WINDOW};
use crate::plugin::{Catalog, CatalogError, Offered};
use crate::shared::Waker;
use crate::store::{self, Store};
use crate::telemetry::health::RouteBreaker;
use crate::telemetry::{Metrics, Status};

/// Trips that may wait for their rollback: more than there are routes, as each waits for its own.
const TRIPS_MAX: usize = 100;

/// Swaps that may wait until what is held on their routes is due.
pub(super) const SWAPS_MAX: usize = 1000;

/// The longest pause between two tries of a rollback while the database is away.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// When breakers open, in core's words.
pub(super) fn rules(config: &Config) -> Rules {
    Rules {
        window: BREAKER_WINDOW,
        minimum: config.breaker.minimum,
        percent: BREAKER_PERCENT,
        open_time: config.breaker.open_time,
        open_time_max: config.breaker.open_time_max,
    }
}

/// Tells of changes: to health, metrics, log and the topic for that; and hands on what may have to be rolled back.
pub(super) struct Teller {
    status: Status,
    metrics: Arc<Metrics>,
    life: LifeCycle,
    trips: mpsc::Sender<Told>,
}

impl Teller {
    /// With where trips go to.
    pub(super) fn new(
        config: &Config,
        status: Status,
        metrics: Arc<Metrics>,
        life: LifeCycle,
    ) -> (Self, mpsc::Receiver<Told>) {
        for route in &config.routes {
            metrics.set_route_breaker(&route.name, State::Closed);
        }
        let (trips, tripped) = mpsc::channel(TRIPS_MAX);
        let teller = Self {
            status,
            metrics,
            life,
            trips,
        };
        (teller, tripped)
    }
}

impl Observer for Teller {
    fn changed(&self, told: &Told) {
        let Told {
            state, why, reason, ..
        } = told;
        let now = now();
        let pause = told
            .pause
            .map(|pause| i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        self.status.set_breaker(RouteBreaker {
            route: told.name.to_string(),
            state: state.as_str(),
            held: told.held,
            since: Some(timestamp::to_rfc3339(now)),
            why: Some(why.as_str()),
            reason: reason.clone(),
            by: told.by.clone(),
            probe_at: pause.map(|pause| timestamp::to_rfc3339(now.saturating_add(pause))),
            decided: told.figures.decided,
            faults: told.figures.faults,
            activation: told.deciding.activation,
        });
        self.metrics.set_route_breaker(&told.name, *state);
        let kind = match state {
            State::Open => "breaker.opened",
            State::HalfOpen => "breaker.half-open",
            State::Closed => "breaker.closed",
        };
        let [decided, faults, activation, window, pause] = [
            told.figures.decided.to_string(),
            told.figures.faults.to_string(),
            told.deciding.activation.to_string(),
            BREAKER_WINDOW.as_millis().to_string(),
            pause.unwrap_or_default().to_string(),
        ];
        let mut fields = vec![
            ("breaker", "route"),
            ("route", &*told.name),
            ("why", why.as_str()),
            ("reason", reason),
            ("activation", &activation),
            ("digest", &told.deciding.digest),
        ];
        if *why == Why::Faults {
            fields.extend([
                ("decided", &*decided),
                ("faults", &faults),
                ("windowMs", &window),
            ]);
        }
        fields.extend(
            told.code
                .filter(|_| *state == State::Open)
                .map(|code| ("code", code)),
        );
        fields.extend(told.by.as_deref().map(|by| ("by", by)));
        fields.extend(told.pause.map(|_| ("openMs", &*pause)));
        self.life.tell(kind, &fields);
        let (route, state, why) = (&*told.name, state.as_str(), why.as_str());
        match told.state {
            State::Open => {
                tracing::warn!(
                    route,
                    state,
                    why,
                    reason,
                    activation,
                    "nothing of the route is decided; nothing is lost"
                );
            }
            State::HalfOpen | State::Closed => {
                tracing::info!(route, state, why, reason, activation, "the route's breaker");
            }
        }
        if (told.state, told.why) == (State::Open, Why::Faults) {
            self.metrics.route_tripped(route);
            // One that is dropped comes again with the next fault; the breaker is open meanwhile.
            let _ = self.trips.try_send(told.clone());
        }
    }
}

/// Rolls back versions that trip their breaker on probation.
pub(super) async fn roll_back(
    catalog: Arc<Catalog>,
    mut tripped: mpsc::Receiver<Told>,
    backoff: Duration,
    metrics: Arc<Metrics>,
    life: LifeCycle,
    background: Background,
) {
    while let Some(told) = tripped.recv().await {
        // Its own task: one route's rollback doesn't wait for another's.
        let (catalog, metrics, life) = (catalog.clone(), metrics.clone(), life.clone());
        background.once(ROLLBACKS, async move {
                let mut attempt = 0;
                while let Err(error) = roll_back_once(&catalog, &told, &metrics, &life).await {
                    let route = &*told.name;
                    tracing::warn!(route, %error, "a version on probation can't be rolled back now; trying again");
                    let pause = retry::full_jitter(backoff, attempt, BACKOFF_MAX, rand::random());
                    tokio::time::sleep(pause).await;
                    attempt = attempt.saturating_add(1);
                }
            });
    }
}

async fn roll_back_once(
    catalog: &Catalog,
    told: &Told,
    metrics: &Metrics,
    life: &LifeCycle,
) -> Result<(), CatalogError> {
    let tripped = told.deciding.activation;
    let Some(active) = catalog.current(told.route) else {
        return Ok(());
    };
    if active.number != tripped || !active.is_on_probation(now()) {
        return Ok(());
    }
    let route = &*told.name;
    let reason = format!("rollback of activation {tripped}: {}", told.reason);
    match catalog.roll_back(told.route, tripped, &by(), &reason).await {
        Ok(Some(Offered::Activated(activation))) => {
            metrics.rolled_back(route);
            let (number, tripped) = (activation.number.to_string(), tripped.to_string());
            let fields = [
                ("route", route),
                ("activation", &*number),
                ("digest", &activation.digest),
                ("rolledBack", &tripped),
                ("rolledBackDigest", &active.version.digest),
                ("reason", &told.reason),
            ];
            life.tell("plugin.rolled-back", &fields);
            tracing::warn!(
                route,
                activation = number,
                digest = activation.digest,
                rolled_back = tripped,
                reason = told.reason,
                "the version before decides again: the new one failed on probation"
            );
            Ok(())
        }
        Ok(Some(Offered::Lost(_) | Offered::Unchanged(_))) => {
            tracing::info!(
                route,
                activation = tripped,
                "somebody else replaced the version that failed"
            );
            Ok(())
        }
        Ok(None) => {
            tracing::warn!(
                route,
                activation = tripped,
                "a version fails on probation and there is none to go back to; its messages wait"
            );
            Ok(())
        }
        Err(error @ CatalogError::Versions(_)) => Err(error),
        Err(error) => {
            tracing::error!(route, %error, "the version before can't decide any more; messages wait for one that can");
            Ok(())
        }
    }
}

/// Makes what is held due at once when another version decides.
pub(super) async fn release_held(
    store: Store,
    waker: Waker,
    group: String,
    mut swapped: mpsc::Receiver<String>,
) {
    while let Some(route) = swapped.recv().await {
        let mut attempt = 0;
        while let Err(error) = release_once(&store, &waker, &group, &route).await {
            tracing::debug!(route, %error, "what is held can't be made due now; trying again");
            let pause = retry::full_jitter(BACKOFF_MAX, attempt, BACKOFF_MAX, rand::random());
            tokio::time::sleep(pause).await;
            attempt = attempt.saturating_add(1);
        }
    }
}

async fn release_once(
    store: &Store,
    waker: &Waker,
    group: &str,
    route: &str,
) -> Result<(), store::Error> {
    let woken = store.release_held(group, route, now()).await?;
    for key in &woken {
        waker.poke(&key.partition);
    }
    store.notify(&woken).await
}

/// Carries people's orders out, as soon as they are heard of and now and then.
pub(super) async fn follow_orders(
    store: Store,
    breakers: Arc<RouteBreakers>,
    hint: Arc<tokio::sync::Notify>,
    every: Duration,
) {
    loop {
        let _ = tokio::time::timeout(every, hint.notified()).await;
        if let Err(error) = read_orders(&store, &breakers).await {
            tracing::debug!(%error, "people's orders to breakers can't be read now");
        }
    }
}

/// Reads the last orders and carries out those that are new.
pub(super) async fn read_orders(
    store: &Store,
    breakers: &RouteBreakers,
) -> Result<(), store::Error> {
    for order in store.breaker_orders().await? {
        breakers.ordered(&order);
    }
    Ok(())
}

/// Milliseconds since 1970.
fn now() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}
