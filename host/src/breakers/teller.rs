//! Tells of the routes' breakers: to health, metrics, log and the topic of the life cycle.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::route_breaker::{Rules, State};
use taskhost_core::timestamp;
use tokio::sync::mpsc;

use super::told::{Observer, Told, Why};
use crate::clock;
use crate::config::Config;
use crate::config::fixed::{BREAKER_PERCENT, BREAKER_WINDOW};
use crate::telemetry::health::RouteBreaker;
use crate::telemetry::{LifeCycle, Metrics, Status};

/// Trips that may wait for their rollback: more than there are routes, as each waits for its own.
const TRIPS_MAX: usize = 100;

/// When breakers open, in core's words.
pub(crate) fn rules(config: &Config) -> Rules {
    Rules {
        window: BREAKER_WINDOW,
        minimum: config.breaker.minimum,
        percent: BREAKER_PERCENT,
        open_time: config.breaker.open_time,
        open_time_max: config.breaker.open_time_max,
    }
}

/// Tells of changes: to health, metrics, log and the topic for that; and hands on what may have to be rolled back.
pub(crate) struct Teller {
    status: Status,
    metrics: Arc<Metrics>,
    life: LifeCycle,
    trips: mpsc::Sender<Told>,
}

impl Teller {
    /// With where trips go to.
    pub(crate) fn new(
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
        self.status.set_breaker(shown(told));
        self.metrics.set_route_breaker(&told.name, told.state);
        self.tell_life(told);
        log(told);
        if (told.state, told.why) == (State::Open, Why::Faults) {
            self.metrics.route_tripped(&told.name);
            // One that is dropped comes again with the next fault; the breaker is open meanwhile.
            let _ = self.trips.try_send(told.clone());
        }
    }
}

impl Teller {
    /// On the topic of the life cycle.
    fn tell_life(&self, told: &Told) {
        let kind = match told.state {
            State::Open => "breaker.opened",
            State::HalfOpen => "breaker.half-open",
            State::Closed => "breaker.closed",
        };
        let [decided, faults, activation, window, pause] = [
            told.figures.decided.to_string(),
            told.figures.faults.to_string(),
            told.deciding.activation.to_string(),
            BREAKER_WINDOW.as_millis().to_string(),
            told.pause.map(millis).unwrap_or_default().to_string(),
        ];
        let mut fields = vec![
            ("breaker", "route"),
            ("route", &*told.name),
            ("why", told.why.as_str()),
            ("reason", &told.reason),
            ("activation", &activation),
            ("digest", &told.deciding.digest),
        ];
        if told.why == Why::Faults {
            fields.extend([
                ("decided", &*decided),
                ("faults", &faults),
                ("windowMs", &window),
            ]);
        }
        let code = told.code.filter(|_| told.state == State::Open);
        fields.extend(code.map(|code| ("code", code)));
        fields.extend(told.by.as_deref().map(|by| ("by", by)));
        fields.extend(told.pause.map(|_| ("openMs", &*pause)));
        self.life.tell(kind, &fields);
    }
}

/// As health shows it.
fn shown(told: &Told) -> RouteBreaker {
    let now = clock::now();
    let probe_at = |pause| timestamp::to_rfc3339(now.saturating_add(millis(pause)));
    RouteBreaker {
        route: told.name.to_string(),
        state: told.state.as_str(),
        held: told.held,
        since: Some(timestamp::to_rfc3339(now)),
        why: Some(told.why.as_str()),
        reason: told.reason.clone(),
        by: told.by.clone(),
        probe_at: told.pause.map(probe_at),
        decided: told.figures.decided,
        faults: told.figures.faults,
        activation: told.deciding.activation,
    }
}

fn log(told: &Told) {
    let (route, state, why) = (&*told.name, told.state.as_str(), told.why.as_str());
    let (reason, activation) = (&told.reason, told.deciding.activation.to_string());
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
}

fn millis(pause: Duration) -> i64 {
    i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)
}
