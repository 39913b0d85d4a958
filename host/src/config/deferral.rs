//! The settings of deferral: how long a deferred message waits, and when it is given up.

use std::time::Duration;

use super::input::Input;
use super::section::section;
use super::value::millis;

section! {
    /// The limits of deferral. They stop while a route, a dependency or a partition is paused, and while no host runs.
    pub struct Deferral in "deferral" {
        /// How often a deferred message is decided again before it becomes a dead letter.
        attempts_max: u32 = "100" [1..=1000000], "TASKHOST_DEFERRAL_ATTEMPTS_MAX" => "dead letter after so many attempts";
        /// How old a deferred message may become, in its partition's working time, before it becomes a dead letter.
        age_max: Duration = "86400000" [1..=31536000000], "TASKHOST_DEFERRAL_AGE_MAX" => "dead letter after so long";
        /// The shortest delay. A shorter delay of a plugin is raised to it.
        delay_min: Duration = "100" [1..=86400000], "TASKHOST_DEFERRAL_DELAY_MIN" => "when a deferred message is due";
        /// The longest delay. A longer delay of a plugin is reduced to it.
        delay_max: Duration = "300000" [1..=31536000000], "TASKHOST_DEFERRAL_DELAY_MAX" => "when a deferred message is due";
    }
}

impl Deferral {
    pub(super) fn check(&self, input: &mut Input) {
        if self.delay_min > self.delay_max {
            input.add_contradiction(
                &["deferral.delay_min", "deferral.delay_max"],
                format!(
                    "deferral.delay_min is {} ms, more than deferral.delay_max, {} ms",
                    millis(self.delay_min),
                    millis(self.delay_max)
                ),
                format!(
                    "set TASKHOST_DEFERRAL_DELAY_MIN to at most {}",
                    millis(self.delay_max)
                ),
            );
        }
    }
}
