//! How much is asked and committed at a time: the whole batch, down to a single cause when something fails.
//!
//! ```text
//!  together ── several causes exceed their deadline in one call ──► one by one ── a commit ──► together
//!     │                                                                │
//!     └── Postgres refuses a value ──► alone ◄─────────────────────────┘
//!                                        │
//!                                        └── Postgres refuses it alone ──► blamed: a dead letter, undecided
//! ```
//!
//! Records and waiting rows each have a ladder of their own. It belongs to a claim, and ends with it.

use super::halves::piece_after;
use crate::fault::{Fault, Kind};

/// How a round decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Rung {
    /// Everything in one commit, in pieces of so many items, each in one call. A piece in which a plugin faults is halved
    /// until the cause that faults alone is found.
    Together {
        /// Items of one call.
        piece: usize,
    },
    /// Everything in one commit, each cause in a call of its own.
    OneByOne,
    /// One item in one commit.
    Alone,
    /// One item, which Postgres refused when it was alone: a dead letter.
    Blamed(Fault),
}

/// Where a source of causes is on the ladder.
#[derive(Debug, Clone)]
pub struct Ladder {
    rung: Rung,
    /// Items of one call, for the next round that decides together.
    piece: usize,
    /// How many items are decided alone, while the rung is [`Rung::Alone`] or below.
    alone: usize,
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            rung: Rung::Together { piece: usize::MAX },
            piece: usize::MAX,
            alone: 0,
        }
    }
}

impl Ladder {
    /// A round begins. The item that was to be blamed may no longer be the first: it is tried alone once more.
    pub fn begin(&mut self) {
        if matches!(self.rung, Rung::Blamed(_)) {
            self.rung = Rung::Alone;
        }
    }

    /// How the next round decides.
    pub fn rung(&self) -> Rung {
        match &self.rung {
            Rung::Together { .. } => Rung::Together { piece: self.piece },
            other => other.clone(),
        }
    }

    /// The next `count` items are decided alone.
    pub fn isolate(&mut self, count: usize) {
        self.alone = self.alone.max(count);
        if self.alone > 0 && !matches!(self.rung, Rung::Blamed(_)) {
            self.rung = Rung::Alone;
        }
    }

    /// Several causes exceeded their deadline in one call.
    pub fn exceeded(&mut self) {
        if matches!(self.rung, Rung::Together { .. }) {
            self.rung = Rung::OneByOne;
        }
    }

    /// Postgres refused what was decided about `count` items.
    ///
    /// # Errors
    /// Why nothing is left to try: it refuses even the dead letter.
    pub fn refused(&mut self, tried: &Rung, count: usize, reason: String) -> Result<(), String> {
        match tried {
            Rung::Together { .. } | Rung::OneByOne => self.isolate(count.max(1)),
            Rung::Alone => {
                self.alone = self.alone.max(1);
                self.rung = Rung::Blamed(Fault::new(Kind::RefusedByDatabase, reason));
            }
            Rung::Blamed(_) => return Err(format!("not even the dead letter is taken: {reason}")),
        }
        Ok(())
    }

    /// A round was committed that decided so many items, with so many faults.
    pub fn committed(&mut self, covered: usize, faults: usize) {
        self.piece = piece_after(self.piece, covered, faults);
        self.alone = self.alone.saturating_sub(covered);
        self.rung = match self.alone {
            0 => Rung::Together { piece: self.piece },
            _ => Rung::Alone,
        };
    }
}

impl Rung {
    /// How many items a round on this rung takes at most.
    pub fn items_max(&self) -> usize {
        match self {
            Self::Together { .. } | Self::OneByOne => usize::MAX,
            Self::Alone | Self::Blamed(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Rung = Rung::Together { piece: usize::MAX };

    #[test]
    fn a_refused_batch_is_decided_alone_item_by_item_and_then_together_again() {
        let mut ladder = Ladder::default();
        ladder.refused(&WHOLE, 3, "no".into()).expect("a way down");
        for _ in 0..3 {
            assert_eq!(ladder.rung(), Rung::Alone);
            ladder.committed(1, 0);
        }
        assert_eq!(ladder.rung(), WHOLE);
    }

    #[test]
    fn only_what_is_refused_alone_is_blamed_and_a_refused_dead_letter_is_the_end() {
        let mut ladder = Ladder::default();
        ladder.refused(&WHOLE, 2, "no".into()).expect("a way down");
        ladder
            .refused(&Rung::Alone, 1, "this".into())
            .expect("a way down");
        let blamed = ladder.rung();
        assert!(matches!(&blamed, Rung::Blamed(fault) if fault.reason == "this"));
        let end = ladder.clone().refused(&blamed, 1, "nor this".into());
        assert!(end.expect_err("no way down").contains("nor this"));
        ladder.committed(1, 1);
        assert_eq!(ladder.rung(), Rung::Alone);
        ladder.committed(1, 0);
        assert!(matches!(ladder.rung(), Rung::Together { .. }));
    }

    #[test]
    fn after_a_deadline_of_several_one_commit_is_decided_one_by_one() {
        let mut ladder = Ladder::default();
        ladder.exceeded();
        assert_eq!(ladder.rung(), Rung::OneByOne);
        ladder.committed(10, 0);
        assert_eq!(ladder.rung(), WHOLE);
    }

    #[test]
    fn what_a_probe_failed_at_is_decided_alone() {
        let mut ladder = Ladder::default();
        ladder.isolate(1);
        assert_eq!(ladder.rung(), Rung::Alone);
        ladder.exceeded();
        assert_eq!(ladder.rung(), Rung::Alone);
    }
}
