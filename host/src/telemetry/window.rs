//! Counts and durations of the last minute, second by second.

/// Sixty slots of one second each; a slot is used again when its second comes round.
#[derive(Clone, Debug)]
pub(super) struct Window {
    slots: [Slot; SECONDS],
    /// The second of the window's beginning: a young window's rate is over its own age.
    since: u64,
}

/// A minute, as the health page promises.
const SECONDS: usize = 60;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    count: u64,
    sum: f64,
}

impl Window {
    /// An empty window that begins at this second of the host's clock.
    pub(super) fn new(second: u64) -> Self {
        Self {
            slots: [Slot::default(); SECONDS],
            since: second,
        }
    }

    /// Adds `count` things that took `each` seconds apiece.
    pub(super) fn add(&mut self, second: u64, count: u64, each: f64) {
        let index = usize::try_from(second % SECONDS as u64).unwrap_or_default();
        let slot = &mut self.slots[index];
        if slot.second != second {
            *slot = Slot {
                second,
                ..Slot::default()
            };
        }
        slot.count += count;
        slot.sum += each * float(count);
    }

    /// The mean of what was added in the last minute, 0 if there was nothing.
    pub(super) fn mean(&self, second: u64) -> f64 {
        let (count, sum) = self.recent(second).fold((0, 0.0), |(count, sum), slot| {
            (count + slot.count, sum + slot.sum)
        });
        if count == 0 { 0.0 } else { sum / float(count) }
    }

    /// Things per second over the last minute, or over the window's age while that is shorter.
    pub(super) fn rate(&self, second: u64) -> f64 {
        let count: u64 = self.recent(second).map(|slot| slot.count).sum();
        let age = (second.saturating_sub(self.since) + 1).min(SECONDS as u64);
        float(count) / float(age)
    }

    fn recent(&self, second: u64) -> impl Iterator<Item = &Slot> {
        self.slots
            .iter()
            .filter(move |slot| slot.second <= second && second - slot.second < SECONDS as u64)
    }
}

/// A count as a float; above 2^53 the last digits don't matter here.
#[expect(
    clippy::cast_precision_loss,
    reason = "a mean of more than 2^53 things needs no last digit"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn the_mean_weighs_by_count_and_forgets_after_a_minute() {
        let mut window = Window::new(100);
        window.add(100, 1, 4.0);
        window.add(101, 3, 0.0);
        assert!(close(window.mean(101), 1.0));
        assert!(close(window.mean(160), 0.0), "only the second slot is left");
        window.add(160, 1, 7.0);
        assert!(close(window.mean(160), 1.75));
        assert!(close(window.mean(1000), 0.0));
    }

    #[test]
    fn a_young_window_rates_over_its_age_and_an_old_one_over_a_minute() {
        let mut window = Window::new(10);
        window.add(10, 30, 0.0);
        assert!(close(window.rate(10), 30.0));
        assert!(close(window.rate(12), 10.0));
        assert!(close(window.rate(69), 0.5));
        assert!(close(window.rate(70), 0.0));
    }
}
