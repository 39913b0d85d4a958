//! What a round is decided on, and who answers for the plugins.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::items::Items;
use crate::batch::{Decider, Fold, Settings};
use crate::cause::Cause;
use crate::decision::Decision;
use crate::fault::Fault;
use crate::route_breaker;
use crate::task::{Task, TaskId};
use crate::waiting::Ahead;

/// How long the plugins of one round may take. The rest of the items goes into the next round, so that a partition
/// commits something every few seconds however slow its plugins are.
pub const TIME_MAX: Duration = Duration::from_secs(2);

/// One task and the causes to decide on it.
#[derive(Debug, Clone)]
pub struct Work<'a> {
    /// The task's id.
    pub task_id: &'a TaskId,
    /// The task as the causes before these left it; none if there is none yet.
    pub task: Option<&'a Task>,
    /// What happened, in order.
    pub causes: Vec<&'a Cause>,
    /// The number of each cause in the batch, by which the plugin names it in a log line.
    pub numbers: Vec<u32>,
}

/// Whoever answers for the plugins.
pub trait Ask {
    /// What the decisions of a route are carried out with.
    fn decider(&self, route: usize) -> &Arc<Decider>;

    /// Asks a route's plugin, in one fresh instance. The answer has a list for each work, with a decision for each cause.
    ///
    /// # Errors
    /// See [`Unanswered`].
    fn ask(&self, route: usize, works: &[Work<'_>]) -> Result<Vec<Vec<Decision>>, Unanswered>;

    /// How long this round has taken so far.
    fn spent(&self) -> Duration;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The plugin's own fault.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The machine had no room for it: no fault of the plugin and no attempt of the message.
    #[error("the host could not run the plugin: {reason}")]
    Machine {
        /// What was missing.
        reason: String,
    },
}

/// What a round decides on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The partition's settings.
    pub settings: Arc<Settings>,
    /// Milliseconds since 1970. No decision sees it.
    pub now: i64,
    /// How long the partition has worked, in milliseconds.
    pub worked: i64,
    /// The tasks as read.
    pub tasks: Vec<Task>,
    /// What waits of them in the partition, besides the items.
    pub ahead: HashMap<TaskId, Ahead>,
    /// The breakers of the routes, which say when there is no use in going on.
    pub breakers: BTreeMap<usize, route_breaker::Snapshot>,
    /// Whether it is a breaker's probe.
    pub is_probe: bool,
    /// Whether the decisions are kept, so that they can be compared with a second answer.
    pub keep: bool,
}

impl Ground {
    /// The fold of a round on this ground.
    pub(super) fn fold(&self, items: &Items) -> Fold {
        let tasks = self.tasks.iter().cloned();
        let mut fold = Fold::new(self.settings.clone(), self.now, tasks, self.ahead.clone())
            .having_worked(self.worked);
        for (_, cause) in items.causes() {
            fold.announce(cause);
        }
        for (task_id, row) in &items.blocked {
            fold.turn(task_id, *row);
        }
        fold
    }
}
