//! Waiting for conditions instead of for time.

use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for anything: far above what it takes on a busy machine, below the runner's own limit.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something, for at most [`PATIENCE`].
///
/// # Panics
/// If it doesn't happen in time.
pub fn soon<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    soon_within(PATIENCE, what, look)
}

/// [`soon`] with a limit of its own.
///
/// # Panics
/// If it doesn't happen in time.
pub fn soon_within<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    soon_or(limit, what, look, String::new)
}

/// [`soon_within`], saying how things stand if it doesn't happen in time.
///
/// # Panics
/// If it doesn't.
pub(crate) fn soon_or<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
    state: impl FnOnce() -> String,
) -> T {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(LOOK_EVERY);
    }
    look().unwrap_or_else(|| panic!("{what}: it did not happen within {limit:?} {}", state()))
}
