//! A partition's working time, by which what waits grows older.
//!
//! It goes on only while the partition works: no message is blamed for a time in which nothing could be decided, be it a
//! pause, an outage, or a night without a host.

use std::time::Duration;

/// The most that is counted between two looks. A worker looks at least once a second; one that didn't was frozen, or
/// waited for an answer that didn't come.
pub const STEP_MAX: Duration = Duration::from_secs(2);

/// Counts working time. It never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Worked {
    total: Duration,
    /// When it was last looked at, on the host's own clock; none while the partition doesn't work.
    seen: Option<Duration>,
}

impl Worked {
    /// Goes on where the partition's row says; it stands still at first.
    pub fn from_millis(millis: i64) -> Self {
        Self {
            total: Duration::from_millis(u64::try_from(millis).unwrap_or(0)),
            seen: None,
        }
    }

    /// The partition works at `now`, and did since the last look, unless it was stopped.
    pub fn tick(&mut self, now: Duration) {
        if let Some(seen) = self.seen {
            self.total += now.saturating_sub(seen).min(STEP_MAX);
        }
        self.seen = Some(now);
    }

    /// What passes from the last look until the next one doesn't count.
    pub fn stop(&mut self) {
        self.seen = None;
    }

    /// How long the partition has worked, in milliseconds.
    pub fn millis(&self) -> i64 {
        i64::try_from(self.total.as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worked(looks: &[u64]) -> i64 {
        let mut worked = Worked::from_millis(1000);
        for look in looks {
            worked.tick(Duration::from_millis(*look));
        }
        worked.millis()
    }

    #[test]
    fn only_the_time_between_looks_counts() {
        assert_eq!(worked(&[]), 1000, "what is stored");
        assert_eq!(worked(&[500]), 1000, "nothing before the first look");
        assert_eq!(worked(&[500, 700, 1500]), 2000);
    }

    #[test]
    fn a_frozen_worker_counts_one_step() {
        assert_eq!(worked(&[0, 86_400_000]), 3000);
    }

    #[test]
    fn a_stopped_one_counts_nothing_until_it_is_looked_at_again() {
        let mut worked = Worked::default();
        worked.tick(Duration::ZERO);
        worked.tick(Duration::from_millis(100));
        worked.stop();
        worked.tick(Duration::from_millis(900));
        worked.tick(Duration::from_millis(950));
        assert_eq!(worked.millis(), 150);
    }

    #[test]
    fn it_never_goes_back() {
        assert_eq!(worked(&[500, 300, 400]), 1100);
        assert_eq!(Worked::from_millis(-5).millis(), 0);
    }
}
