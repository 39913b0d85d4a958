//! Law 6, watched: decisions made once more, each cause in a fresh instance, on the same tasks.

use std::collections::HashSet;
use std::time::Duration;

use super::{Ask, Ground, Items, single};
use crate::batch::Decided;
use crate::decision::Decision;
use crate::purity;
use crate::task::TaskId;

/// A committed round, with all that its decisions were made of.
#[derive(Debug, Clone)]
pub struct Again<'a> {
    /// What it was about.
    pub items: &'a Items,
    /// What it was decided on.
    pub ground: &'a Ground,
    /// [`super::Round::decisions`].
    pub decisions: &'a [Option<Decision>],
    /// How long the second answers may take. What is left then is not looked at.
    pub time_max: Duration,
}

/// A decision that came out otherwise when it was made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The number of the item.
    pub item: usize,
    /// What differs.
    pub text: String,
}

/// Asks again about what was decided together with others, and says what differs. `asked` is called with the route of
/// each cause that has a second answer.
pub fn differences(
    again: &Again<'_>,
    ask: &impl Ask,
    mut asked: impl FnMut(usize),
) -> Vec<Difference> {
    let Again {
        items,
        ground,
        decisions,
        time_max,
    } = again;
    let (mut fold, mut found) = (ground.fold(items), Vec::new());
    let mut left_out: HashSet<&TaskId> = HashSet::new();
    for (number, (item, first)) in items.list.iter().zip(*decisions).enumerate() {
        if ask.spent() > *time_max {
            break;
        }
        let Some(cause) = single::undecided(&mut fold, item) else {
            continue;
        };
        // What was decided alone is not kept; what comes after it at its task can't be asked about again.
        let is_known = !fold.is_blocked(cause) && !left_out.contains(&cause.task_id);
        let Some(first) = first.as_ref().filter(|_| is_known) else {
            left_out.insert(&cause.task_id);
            continue;
        };
        let Ok(second) = single::single(number, cause, &fold, ask) else {
            // The machine has no room for it now.
            break;
        };
        asked(cause.route);
        if let Some(text) = purity::difference(first, &second) {
            found.push(Difference { item: number, text });
        }
        // The next one is asked about the task as it was then.
        let decider = ask.decider(cause.route);
        let _ = fold.decided(cause, Decided::Answer(first.clone()), decider);
    }
    found
}
