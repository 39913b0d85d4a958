//! Rounds that were decided in vain, because others changed what was read before the commit: how much is tried next.
//!
//! A slow plugin can lose to quick ones on the same task for ever. So a round that loses is cut down to what others leave
//! alone, and what loses on its own is decided once while its task is locked.

use super::Items;
use crate::task::TaskId;

/// Conflicts in a row after which a round is cut.
const WHOLE_MAX: u32 = 2;

/// Conflicts of a single item after which its task is locked while it is decided.
const ALONE_MAX: u32 = 5;

/// The conflicts in a row of one source of causes.
#[derive(Debug, Clone, Default)]
pub struct Conflicts {
    count: u32,
    alone: u32,
    most: Option<usize>,
}

impl Conflicts {
    /// A round lost. `tasks` are those that others changed, as far as they are known.
    pub fn lost(&mut self, items: &Items, tasks: &[TaskId]) {
        let count = items.list.len();
        self.count += 1;
        self.alone += u32::from(count == 1);
        if self.count >= WHOLE_MAX {
            let mut causes = items.causes();
            let first = causes.find(|(_, cause)| tasks.contains(&cause.task_id));
            let before = first.map_or(count / 2, |(number, _)| number);
            self.most = Some(before.max(1));
        }
    }

    /// How many items the next round takes at most.
    pub fn items_max(&self) -> usize {
        self.most.unwrap_or(usize::MAX)
    }

    /// Whether the next round locks its task before it reads it.
    pub fn is_last_resort(&self) -> bool {
        self.alone >= ALONE_MAX
    }
}
