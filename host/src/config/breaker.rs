//! When the breaker of a route opens, for how long, and how long a new version is on probation.

use std::time::Duration;

use super::input::Input;
use super::setting::section;
use super::value::millis;

section! {
    /// The breaker of each route.
    pub struct Breaker in "breaker" {
        /// The fewest decisions within a minute that say anything: it opens when half of them were faults of the plugin. With 0 no breaker of a route opens by itself.
        minimum: u32 = "20" [0..=1000000], "TASKHOST_BREAKER_MINIMUM" => "a route's breaker";
        /// How long it stays open at first, before a single message is tried: a random part of it, doubled with each one that
        /// fails.
        open_time: Duration = "5000" [100..=86400000], "TASKHOST_BREAKER_OPEN_TIME" => "the backoff of a route's breaker";
        /// The longest that it stays open before a single message is tried.
        open_time_max: Duration = "300000" [100..=86400000], "TASKHOST_BREAKER_OPEN_TIME_MAX"
            => "the backoff of a route's breaker";
        /// How long after its activation a version is replaced by the one before if it opens its breaker, and the messages at
        /// which it fails wait instead of becoming dead letters; 0 for never.
        probation: Duration = "600000" [0..=604800000], "TASKHOST_PROBATION" => "rollback by itself";
    }
}

impl Breaker {
    pub(super) fn check(&self, input: &mut Input) {
        if self.open_time > self.open_time_max {
            let (open_time, max) = (millis(self.open_time), millis(self.open_time_max));
            input.contradiction(
                &["breaker.open_time", "breaker.open_time_max"],
                format!(
                    "breaker.open_time is {open_time} ms, more than breaker.open_time_max, {max} ms"
                ),
                format!("set TASKHOST_BREAKER_OPEN_TIME to at most {max}"),
            );
        }
    }
}
