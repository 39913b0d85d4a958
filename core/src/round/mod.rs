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
mod halves;
mod items;
mod ladder;
mod letters;
mod tally;
mod together;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Decided, Decider, Fold, Settings, WriteSet};
use crate::cause::Cause;
use crate::decision::Decision;
use crate::fault::{Fault, Kind};
use crate::route_breaker;
use crate::task::{Task, TaskId};
use crate::waiting::{Ahead, Why};

pub use again::{Again, Difference, differences};
pub use conflicts::Conflicts;
pub use items::{Item, Items, Reading, Stranded};
pub use ladder::{Ladder, Rung};
pub use letters::{Letter, Letters};
pub use tally::{Fate, Faulted, Tallies};

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

/// Decisions, ready to be written.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// What to write.
    pub set: WriteSet,
    /// How many of the items it covers, from the first.
    pub covered: usize,
    /// The plugins' faults, each found alone.
    pub faults: Vec<Faulted>,
    /// How many causes were decided for good, and how many of them were faults.
    pub tallies: Tallies,
    /// If they are kept: the answer to each item that was decided together with others.
    pub decisions: Vec<Option<Decision>>,
}

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

impl Ground {
    /// The fold of a round on this ground.
    fn fold(&self, items: &Items) -> Fold {
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

impl Round {
    /// The tasks whose change has to be looked for after the commit, each with the version that was decided on: 0 if there
    /// was no task. A change may have come between the reading and the commit of a deferral.
    pub fn waiting_for(&self, ground: &Ground) -> Vec<(TaskId, i64)> {
        let version = |id: &TaskId| {
            let changed = self.set.created.iter().chain(&self.set.updated);
            changed
                .chain(&ground.tasks)
                .find(|task| task.id == *id)
                .map_or(0, |task| task.version)
        };
        let waits = |why: Why| matches!(why, Why::Deferral | Why::TaskMissing);
        let began = self.set.waiting.iter().filter(|row| waits(row.why));
        let goes_on = self.set.postponed.iter().filter(|row| waits(row.why));
        began
            .map(|row| &row.task_id)
            .chain(goes_on.map(|row| &row.task_id))
            .map(|id| (id.clone(), version(id)))
            .collect()
    }
}

/// Makes a dead letter of the one item, because the database refused what was decided about it.
fn blame(items: &Items, ground: &Ground, refusal: &Fault, ask: &impl Ask) -> Round {
    let (mut fold, mut faults) = (ground.fold(items), Vec::new());
    let first = items.list.first();
    if let Some(cause) = first.and_then(|item| undecided(&mut fold, item)) {
        let decided = Decided::Fault(refusal.clone());
        take(
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

/// An item's cause, which is to be decided; a record that is none is taken at once, as a dead letter.
fn undecided<'a>(fold: &mut Fold, item: &'a Item) -> Option<&'a Cause> {
    match item {
        Item::Cause(cause) => Some(cause),
        Item::Undecodable {
            message,
            why,
            waited,
        } => {
            fold.undecodable(message, why, waited.as_ref());
            None
        }
        Item::Republish { message, waited } => {
            fold.republish(message, waited);
            None
        }
        Item::GivenUp(given_up) => {
            fold.given_up(given_up);
            None
        }
    }
}

/// Asks about one cause, in a fresh instance.
fn single(
    number: usize,
    cause: &Cause,
    fold: &Fold,
    ask: &impl Ask,
) -> Result<Decided, Unanswered> {
    let work = Work {
        task_id: &cause.task_id,
        task: fold.task(&cause.task_id),
        causes: vec![cause],
        numbers: vec![u32::try_from(number).unwrap_or(u32::MAX)],
    };
    match ask.ask(cause.route, &[work]) {
        Ok(decisions) => Ok(match decisions.into_iter().flatten().next() {
            Some(decision) => Decided::Answer(decision),
            None => Decided::Fault(Fault::new(
                Kind::MalformedAnswer,
                "the plugin answered no decision",
            )),
        }),
        Err(Unanswered::Fault(fault)) => Ok(Decided::Fault(fault)),
        Err(other) => Err(other),
    }
}

/// Takes a decision; one that breaks the plugin's own rules is this cause's fault.
fn take(
    fold: &mut Fold,
    cause: &Cause,
    decided: Decided,
    decider: &Arc<Decider>,
    faults: &mut Vec<Faulted>,
) {
    let fault = match decided {
        Decided::Fault(fault) => fault,
        answer @ Decided::Answer(_) => match fold.decided(cause, answer, decider) {
            Ok(_) => return,
            Err(fault) => fault,
        },
    };
    let tries_again = fold.tries_again(cause, &fault);
    // Taking a fault never faults.
    let taken = fold.decided(cause, Decided::Fault(fault.clone()), decider);
    faults.push(Faulted {
        decider: decider.clone(),
        fault,
        position: cause.position().clone(),
        task_id: cause.task_id.clone(),
        fate: Fate::of(&taken, tries_again),
    });
}
