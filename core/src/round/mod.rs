//! One pass of deciding: causes and tasks go in, a write set comes out. Nothing here touches the world.
//!
//! ```text
//!  records, rows, replays ──► items ──► decide ──► Round { write set, tallies, faults }
//!                                        │  ▲
//!                                   Ask ─┘  └─ answers
//! ```
//!
//! The worker, the purity check, the breakers' probes and the laws in `core/tests` all call [`decide`]. What a plugin
//! answers comes through the trait [`Ask`]; the time, the tasks, what waits and the breakers come in as values
//! ([`Ground`]). A [`Rung`] of the [`Ladder`] says how much is asked in one call.
//!
//! Everything is taken in order and once. A round may be cut: [`Round::covered`] says how many items it decides. What is
//! left is decided by the next round.

mod again;
mod conflicts;
mod decided;
mod ground;
mod halves;
mod item;
mod items;
mod ladder;
mod letters;
mod single;
mod tally;
mod together;

use crate::batch::Decided;
use crate::fault::Fault;

pub use again::{Again, Difference, differences};
pub use conflicts::Conflicts;
pub use decided::Round;
pub use ground::{Ask, Ground, TIME_MAX, Unanswered, Work};
pub use item::{Item, Reading};
pub use items::{Items, Stranded};
pub use ladder::{Ladder, Rung};
pub use letters::{Letter, Letters};
pub use tally::{Fate, Faulted, Tallies};

/// Decides the items on a rung of the ladder.
///
/// # Errors
/// [`Unanswered::Machine`] if the machine can't run a guest now. [`Unanswered::Fault`] only for a deadline that several
/// causes exceeded in one call; then nothing was decided, and the next rung is for the same items.
pub fn decide(
    items: &Items,
    ground: &Ground,
    rung: &Rung,
    ask: &impl Ask,
) -> Result<Round, Unanswered> {
    match rung {
        Rung::Blamed(refusal) => Ok(blame(items, ground, refusal, ask)),
        Rung::Together { piece } => together::decide(items, ground, *piece, ask),
        Rung::OneByOne | Rung::Alone => together::decide(items, ground, 1, ask),
    }
}

/// Makes a dead letter of the one item, because the database refused what was decided about it.
fn blame(items: &Items, ground: &Ground, refusal: &Fault, ask: &impl Ask) -> Round {
    let (mut fold, mut faults) = (ground.fold(items), Vec::new());
    let first = items.list.first();
    if let Some(cause) = first.and_then(|item| single::undecided(&mut fold, item)) {
        let decided = Decided::Fault(refusal.clone());
        single::take(
            &mut fold,
            cause,
            decided,
            ask.decider(cause.route),
            &mut faults,
        );
    }
    Round {
        set: fold.finish(),
        covered: items.list.len().min(1),
        faults,
        ..Round::default()
    }
}
