//! The times at which nothing could be decided, so that no message is blamed for having waited through them.

/// So many are remembered. Forgetting the oldest only makes a message that waits since then older.
const KEPT_MAX: usize = 1000;

/// Pauses in the order of time, in milliseconds since 1970; none overlaps another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pauses(Vec<(i64, i64)>);

impl Pauses {
    /// Adds one that is over. One that began before the last one ended counts from there.
    pub fn add(&mut self, from: i64, to: i64) {
        let from = self.0.last().map_or(from, |(_, end)| from.max(*end));
        if from < to {
            if self.0.len() == KEPT_MAX {
                self.0.remove(0);
            }
            self.0.push((from, to));
        }
    }

    /// How many milliseconds between two times were paused.
    pub fn within(&self, from: i64, to: i64) -> i64 {
        let overlap =
            |(begin, end): &(i64, i64)| to.min(*end).saturating_sub(from.max(*begin)).max(0);
        self.0.iter().map(overlap).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_paused_between_two_times_is_told() {
        let mut pauses = Pauses::default();
        pauses.add(100, 200);
        pauses.add(150, 250);
        pauses.add(300, 300);
        pauses.add(400, 500);
        for (from, to, paused) in [
            (0, 1000, 250),
            (0, 150, 50),
            (120, 450, 180),
            (250, 400, 0),
            (600, 500, 0),
        ] {
            assert_eq!(pauses.within(from, to), paused, "{from} to {to}");
        }
    }

    #[test]
    fn only_so_many_are_kept() {
        let mut pauses = Pauses::default();
        (0..2000).for_each(|second| pauses.add(second * 1000, second * 1000 + 1));
        assert_eq!(pauses.within(0, i64::MAX), 1000);
    }
}
