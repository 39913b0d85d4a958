//! The time of day for everything that a simulation runs, read in one place so that the simulation can set it. Durations are
//! measured with [`tokio::time::Instant`], whose clock a simulation can pause. Other code may ask the system itself.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

thread_local! {
    /// When the simulated time began, and the time of day at that moment.
    static SIMULATED: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    if let Some((began, then)) = SIMULATED.get() {
        return then.saturating_add(millis(began.elapsed().as_millis()));
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| millis(since.as_millis()))
}

/// Makes the time of day on this thread follow the clock of its tokio runtime, from `then` on (milliseconds since 1970).
pub fn simulate(then: i64) {
    SIMULATED.set(Some((Instant::now(), then)));
}

fn millis(millis: u128) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
