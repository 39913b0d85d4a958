//! Finds the causes at which a plugin faults without asking about each of them alone: a batch that faults is halved, and
//! the half that faults again, until a cause is alone.
//!
//! Everything is taken in order and once. One culprit in a batch of n costs about log2 n further calls, and only what
//! faults alone is at fault. While batches fault, they begin in pieces ([`piece_after`]): what is asked about in vain is the
//! large ranges.

use std::ops::Range;

/// What to ask about next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Two or more items in one call.
    Together(Range<usize>),
    /// One item, in an instance of its own: if that faults, the item is at fault.
    Alone(usize),
}

/// The smallest piece that a batch begins in: an instance for each costs little beside so many items.
const PIECE_MIN: usize = 16;

/// How large the pieces of the next batch are, after one of `count` items and `faults`, begun in pieces of `piece`: so that
/// every second one has a culprit, if there go on to be as many; twice as large after a batch without.
pub(super) fn piece_after(piece: usize, count: usize, faults: usize) -> usize {
    match faults {
        0 => piece.saturating_mul(2),
        faults => (count / (2 * faults)).max(PIECE_MIN),
    }
}

/// A batch on its way: what of it is still to be asked about.
///
/// After each [`Halves::step`], the caller takes the answers, or says what went wrong before it asks for the next one.
#[derive(Debug)]
pub(super) struct Halves {
    /// In order from the end. With each range, how many failures there had been when it was left behind as the second
    /// half of one that failed: if there are no more when its turn comes, the first half was fine.
    left: Vec<(Range<usize>, Option<u32>)>,
    /// The last step's items.
    current: Range<usize>,
    failures: u32,
}

impl Halves {
    /// Begins with pieces of so many items.
    pub(super) fn of(count: usize, piece: usize) -> Self {
        let starts = (0..count).step_by(piece.max(1));
        let pieces =
            starts.map(|start| (start..start.saturating_add(piece.max(1)).min(count), None));
        Self {
            left: pieces.rev().collect(),
            current: 0..0,
            failures: 0,
        }
    }

    /// The next items; none at the end.
    pub(super) fn step(&mut self) -> Option<Step> {
        loop {
            let (range, behind) = self.left.pop()?;
            let is_known_to_fail = behind == Some(self.failures);
            match range.len() {
                0 => {}
                1 => {
                    self.current = range;
                    return Some(Step::Alone(self.current.start));
                }
                _ if is_known_to_fail => self.split(&range),
                _ => {
                    self.current = range.clone();
                    return Some(Step::Together(range));
                }
            }
        }
    }

    /// The last step's call faulted, and nothing of it was taken.
    pub(super) fn failed(&mut self) {
        self.failures += 1;
        if self.current.len() > 1 {
            let range = self.current.clone();
            self.split(&range);
        }
    }

    /// The answer to one item of the last step breaks a rule. Those before it were taken; those behind it were answered
    /// as if it had been, too, so they are asked about again.
    pub(super) fn broke(&mut self, item: usize) {
        self.failures += 1;
        self.left.push((item + 1..self.current.end, None));
        self.left.push((item..item + 1, None));
    }

    /// The answers from one item of the last step on rest on one that was discarded. Those before it were taken; the rest is
    /// asked about again.
    pub(super) fn outdated(&mut self, item: usize) {
        self.left.push((item..self.current.end, None));
    }

    fn split(&mut self, range: &Range<usize>) {
        let middle = range.start + range.len() / 2;
        self.left.push((middle..range.end, Some(self.failures)));
        self.left.push((range.start..middle, None));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What a walk came to.
    #[derive(Debug, Default)]
    struct Walk {
        taken: Vec<usize>,
        at_fault: BTreeSet<usize>,
        calls: usize,
    }

    /// Walks over a batch in which some items trap, and some are answered wrongly.
    fn walk(count: usize, piece: usize, traps: &BTreeSet<usize>, wrong: &BTreeSet<usize>) -> Walk {
        let (mut halves, mut walk) = (Halves::of(count, piece), Walk::default());
        while let Some(step) = halves.step() {
            walk.calls += 1;
            match step {
                Step::Alone(item) => {
                    walk.taken.push(item);
                    if traps.contains(&item) || wrong.contains(&item) {
                        walk.at_fault.insert(item);
                        halves.failed();
                    }
                }
                Step::Together(range) if range.clone().any(|item| traps.contains(&item)) => {
                    halves.failed();
                }
                Step::Together(range) => {
                    let broke = range.clone().find(|item| wrong.contains(item));
                    walk.taken.extend(range.start..broke.unwrap_or(range.end));
                    if let Some(item) = broke {
                        halves.broke(item);
                    }
                }
            }
        }
        walk
    }

    proptest! {
        #[test]
        fn each_item_is_taken_once_in_order_and_only_culprits_are_at_fault(
            count in 0usize..600,
            piece in prop_oneof![1usize..700, Just(usize::MAX)],
            traps in proptest::collection::btree_set(0usize..600, 0..12),
            wrong in proptest::collection::btree_set(0usize..600, 0..12),
        ) {
            let within = |items: &BTreeSet<usize>| -> BTreeSet<usize> { items.range(..count).copied().collect() };
            let (traps, wrong) = (within(&traps), within(&wrong));
            let walk = walk(count, piece, &traps, &wrong);
            prop_assert_eq!(walk.taken, (0..count).collect::<Vec<_>>());
            let culprits: BTreeSet<usize> = traps.union(&wrong).copied().collect();
            prop_assert!(walk.calls <= count.div_ceil(piece) + culprits.len() * 22, "{} calls", walk.calls);
            prop_assert_eq!(walk.at_fault, culprits);
        }
    }

    #[test]
    fn one_culprit_of_five_hundred_costs_a_dozen_calls() {
        for culprit in 0..500 {
            let alone = BTreeSet::from([culprit]);
            let trap = walk(500, 500, &alone, &BTreeSet::new());
            assert!(trap.calls <= 19, "{culprit}: {} calls", trap.calls);
            let wrong = walk(500, 500, &BTreeSet::new(), &alone);
            assert!(wrong.calls <= 3, "{culprit}: {} calls", wrong.calls);
        }
        assert_eq!(walk(500, 500, &BTreeSet::new(), &BTreeSet::new()).calls, 1);
    }

    #[test]
    fn pieces_are_small_while_there_are_faults_and_grow_when_there_are_none() {
        assert_eq!(piece_after(usize::MAX, 500, 0), usize::MAX);
        assert_eq!(piece_after(usize::MAX, 500, 5), 50);
        assert_eq!(piece_after(50, 500, 400), PIECE_MIN);
        assert_eq!(piece_after(50, 500, 0), 100);
    }

    #[test]
    fn five_culprits_cost_fewer_items_in_pieces() {
        let traps: BTreeSet<usize> = (0..5).map(|number| 50 + number * 100).collect();
        let asked = |piece| {
            let (mut halves, mut asked) = (Halves::of(500, piece), 0);
            while let Some(step) = halves.step() {
                let range = match step {
                    Step::Together(range) => range,
                    Step::Alone(item) => item..item + 1,
                };
                asked += range.len();
                if range.into_iter().any(|item| traps.contains(&item)) {
                    halves.failed();
                }
            }
            asked
        };
        assert!(
            asked(50) * 2 < asked(500),
            "{} of {}",
            asked(50),
            asked(500)
        );
    }
}
