//! When the breaker of a route opens, for how long, and how long a new version is on probation.

use std::time::Duration;

use super::input::Input;
use super::section::section;
use super::value::millis;

section! {
    /// The breaker of each route.
    pub struct Breaker in "breaker" {
        /// The fewest decisions within a minute that can open a breaker; it opens when half of them were faults of the
        /// plugin. With 0 no breaker of a route opens by itself.
        minimum: u32 = "20" [0..=1000000], "TASKHOST_BREAKER_MINIMUM" => "a route's breaker";
        /// How long the breaker at first stays open before a single message is tried. The real time is a random part of it.
        /// It doubles with each message that fails.
        open_time: Duration = "5000" [100..=86400000], "TASKHOST_BREAKER_OPEN_TIME" => "the backoff of a route's breaker";
        /// The longest time that the breaker stays open before a single message is tried.
        open_time_max: Duration = "300000" [100..=86400000], "TASKHOST_BREAKER_OPEN_TIME_MAX"
            => "the backoff of a route's breaker";
        /// How long a version is on probation after its activation; 0 means never. If it opens its breaker during that time,
        /// the previous version replaces it. Messages on which it faults wait instead of becoming dead letters.
        probation: Duration = "600000" [0..=604800000], "TASKHOST_PROBATION" => "rollback by itself";
    }
}

impl Breaker {
    pub(super) fn check(&self, input: &mut Input) {
        if self.open_time > self.open_time_max {
            let (open_time, max) = (millis(self.open_time), millis(self.open_time_max));
            input.add_contradiction(
                &["breaker.open_time", "breaker.open_time_max"],
                format!(
                    "breaker.open_time is {open_time} ms, more than breaker.open_time_max, {max} ms"
                ),
                format!("set TASKHOST_BREAKER_OPEN_TIME to at most {max}"),
            );
        }
    }
}
