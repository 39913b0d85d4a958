//! The time of day, read in one place, so that a simulation can have a time of its own. What is measured goes by
//! [`tokio::time::Instant`], which a simulation can hold, too.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

thread_local! {
    /// When a simulated time began, and what it was then.
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

/// From now on the time of day on this thread is that of its runtime's clock, and `then` at this moment.
pub fn simulate(then: i64) {
    SIMULATED.set(Some((Instant::now(), then)));
}

fn millis(millis: u128) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
