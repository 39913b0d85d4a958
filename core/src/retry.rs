//! Schedules, as functions of what happened so far.

use std::time::Duration;

/// Exponential backoff with full jitter (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>):
/// a random time between nothing and `base · 2^attempt`, capped. `random` is between 0 and 1.
pub fn full_jitter(base: Duration, attempt: u32, cap: Duration, random: f64) -> Duration {
    doubled(base, attempt, Duration::ZERO, cap).mul_f64(random.clamp(0.0, 1.0))
}

/// `base · 2^attempt`, between `min` and `max`.
pub fn doubled(base: Duration, attempt: u32, min: Duration, max: Duration) -> Duration {
    let factor = 1u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX);
    base.saturating_mul(factor).max(min).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_backoff_never_leaves_its_bounds(base in 0u64..100_000, attempt: u32, cap in 0u64..1_000_000, random in 0.0f64..=1.0) {
            let wait = full_jitter(Duration::from_millis(base), attempt, Duration::from_millis(cap), random);
            prop_assert!(wait <= Duration::from_millis(cap));
        }
    }

    #[test]
    fn each_attempt_doubles_the_wait_up_to_the_cap() {
        let ms = Duration::from_millis;
        let waits: Vec<_> = (0..5)
            .map(|attempt| doubled(ms(100), attempt, ms(0), ms(1000)))
            .collect();
        assert_eq!(waits, [ms(100), ms(200), ms(400), ms(800), ms(1000)]);
    }
}
