//! Asks plugins about the causes of a batch: together, or one by one after a deadline or a refusal.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskhost_core::batch::{Decided, Decider, Fold, Settings, WriteSet};
use taskhost_core::cause::Cause;
use taskhost_core::decision::Decision;
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::outcome::Outcome;
use taskhost_core::record::{Position, TopicPartition};
use taskhost_core::route_breaker::Tally;
use taskhost_core::task::{Task, TaskId};
use taskhost_core::waiting::Why;

use super::causes::{Item, Items};
use super::plugins::Plugins;
use super::together;
use crate::plugin::{Failure as DecideError, Work};
use crate::route_breaker::RouteBreakers;

/// How long a batch that is decided one by one may keep its transaction open. What is left goes into the next batch.
/// Far below `idle_in_transaction_session_timeout` (10 s), and long enough for hundreds of causes.
pub(super) const SINGLY_TIME_MAX: Duration = Duration::from_secs(2);

/// What a batch is decided on.
pub(super) struct Ground {
    /// The partition's settings.
    pub(super) settings: Arc<Settings>,
    /// Milliseconds since 1970.
    pub(super) now: i64,
    /// The tasks as locked.
    pub(super) tasks: Vec<Task>,
    /// Tasks behind one of whose causes later ones wait.
    pub(super) blocked: HashSet<TaskId>,
    /// How long the partition has worked, in milliseconds.
    pub(super) worked: i64,
    /// The breakers of the routes, which say when there is no use in going on.
    pub(super) breakers: Arc<RouteBreakers>,
    /// Whether it is a breaker's probe.
    pub(super) probing: bool,
    /// How many items are decided in one call, where all are decided together.
    pub(super) piece: usize,
    /// Whether the decisions are kept, to be made again.
    pub(super) keep: bool,
}

/// Decisions, ready to be written.
pub(super) struct Round {
    /// What to write.
    pub(super) set: WriteSet,
    /// How many of the items it covers, from the first.
    pub(super) covered: usize,
    /// The plugins' faults, each found alone.
    pub(super) faults: Vec<Faulted>,
    /// What was decided for good and how often that was a fault.
    pub(super) tallies: Tallies,
    /// If they are kept: the answer to each item that was decided together with others.
    pub(super) decisions: Vec<Option<Decision>>,
}

/// A plugin's fault at one cause.
pub(super) struct Faulted {
    /// Which plugin, on which route.
    pub(super) decider: Arc<Decider>,
    /// What happened.
    pub(super) fault: Fault,
    /// The record, or the one whose decision set the timer.
    pub(super) position: Position,
    /// The task that the cause is for.
    pub(super) task_id: TaskId,
    /// What became of the cause.
    pub(super) fate: Fate,
}

/// What becomes of a cause at which a plugin faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was given up.
    DeadLetter,
    /// It exceeded its deadline and waits for another try.
    TriedAgain,
    /// It waits for the end of the plugin's probation.
    Held,
}

/// What was decided for good and how often that was a fault, by the route's number.
#[derive(Debug, Default)]
pub(super) struct Tallies(pub(super) BTreeMap<usize, Tally>);

impl Tallies {
    /// Counts a decision, or what became of a cause at which the plugin faulted. A deadline that is tried again doesn't count
    /// yet. What was counted before doesn't count again, unless it is all that there is to try: a dead letter's replay, and
    /// what was held once the probation is over.
    pub(super) fn count(
        &mut self,
        cause: &Cause,
        fate: Option<Fate>,
        ground: &Ground,
        decider: &Decider,
    ) {
        let was_held = cause.waited.as_ref().is_some_and(|waited| waited.was_held);
        let again = cause.is_new_replay() || (was_held && decider.hold.is_none());
        if fate != Some(Fate::TriedAgain) && (!again || ground.probing) {
            let tally = self.0.entry(cause.route).or_default();
            tally.decided += 1;
            tally.faults += u64::from(fate.is_some());
        }
    }

    /// Whether the route's breaker will open by this batch, however the rest of it comes out.
    pub(super) fn is_hopeless(&self, route: usize, rest: usize, ground: &Ground) -> bool {
        let tally = self.0.get(&route).copied().unwrap_or_default();
        ground.breakers.is_certain(route, tally, rest as u64)
    }
}

impl Round {
    /// The tasks that deferred causes wait for, each with its version then: 0 if there was no task.
    pub(super) fn waiting_for(&self, ground: &Ground) -> Vec<(TaskId, i64)> {
        let version = |id: &TaskId| {
            let changed = self.set.created.iter().chain(&self.set.updated);
            changed
                .chain(&ground.tasks)
                .find(|task| task.id == *id)
                .map_or(0, |task| task.version)
        };
        let began = self.set.waiting.iter();
        let began = began.filter(|row| row.due.is_some() && row.why == Why::Deferral);
        let goes_on = self.set.postponed.iter();
        let goes_on = goes_on.filter(|row| row.why == Why::Deferral);
        began
            .map(|row| &row.task_id)
            .chain(goes_on.map(|row| &row.task_id))
            .map(|id| (id.clone(), version(id)))
            .collect()
    }
}

/// Decides the items: together if `whole`, where a fault halves them until it is found; one by one if not.
///
/// Blocks: runs guests.
///
/// # Errors
/// If the machine can't run a guest now, which is no plugin's fault; or a deadline that was exceeded by the whole.
pub(super) fn decide(
    items: &Items,
    ground: &Ground,
    plugins: &Plugins,
    whole: bool,
) -> Result<Round, DecideError> {
    if whole {
        return together::decide(items, ground, plugins);
    }
    singly(items, ground, plugins)
}

/// Makes a dead letter of the one item, because Postgres refused what was decided about it.
pub(super) fn refused(items: &Items, ground: &Ground, plugins: &Plugins, fault: &Fault) -> Round {
    let (mut fold, mut faults) = (fold(ground), Vec::new());
    if let Some(cause) = items
        .list
        .first()
        .and_then(|item| undecided(&mut fold, item))
    {
        let decided = Decided::Fault(fault.clone());
        take(
            &mut fold,
            cause,
            decided,
            plugins.decider(cause.route),
            &mut faults,
        );
    }
    Round {
        set: fold.finish(),
        covered: items.list.len().min(1),
        faults,
        // No fault of the plugin's.
        tallies: Tallies::default(),
        decisions: Vec::new(),
    }
}

/// An item's cause, which is to be decided; a record that is none is taken at once, as a dead letter.
pub(super) fn undecided<'a>(fold: &mut Fold, item: &'a Item) -> Option<&'a Cause> {
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
    }
}

pub(super) fn fold(ground: &Ground) -> Fold {
    Fold::new(
        ground.settings.clone(),
        ground.now,
        ground.tasks.iter().cloned(),
        ground.blocked.clone(),
    )
    .having_worked(ground.worked)
}

fn singly(items: &Items, ground: &Ground, plugins: &Plugins) -> Result<Round, DecideError> {
    let (began, mut fold) = (Instant::now(), fold(ground));
    let (mut covered, mut faults) = (0, Vec::new());
    let (mut tallies, mut hopeless) = (Tallies::default(), false);
    for (number, item) in items.list.iter().enumerate() {
        if covered > 0 && began.elapsed() > SINGLY_TIME_MAX {
            break;
        }
        if let Some(cause) = undecided(&mut fold, item) {
            let decider = plugins.decider(cause.route);
            if fold.is_blocked(cause) {
                fold.behind(cause, decider);
            } else {
                let decided = single(number, cause, &fold, plugins, &ground.settings.partition)?;
                let before = faults.len();
                take(&mut fold, cause, decided, decider, &mut faults);
                let fate = faults.get(before).map(|faulted| faulted.fate);
                tallies.count(cause, fate, ground, decider);
                let rest = items.list.len() - number - 1;
                hopeless = tallies.is_hopeless(cause.route, rest, ground);
            }
        }
        covered = number + 1;
        if hopeless {
            break;
        }
    }
    Ok(Round {
        set: fold.finish(),
        covered,
        faults,
        tallies,
        decisions: Vec::new(),
    })
}

/// Asks about one cause, in a fresh instance.
pub(super) fn single(
    number: usize,
    cause: &Cause,
    fold: &Fold,
    plugins: &Plugins,
    partition: &TopicPartition,
) -> Result<Decided, DecideError> {
    decided(plugins.decide(cause.route, &[work(number, cause, fold)], partition))
}

/// Asks once more about a cause that was decided, in a fresh instance.
pub(super) fn again(
    number: usize,
    cause: &Cause,
    fold: &Fold,
    plugins: &Plugins,
    ground: &Ground,
) -> Result<Decided, DecideError> {
    let partition = &ground.settings.partition;
    decided(plugins.decide_again(cause.route, &[work(number, cause, fold)], partition))
}

fn work<'a>(number: usize, cause: &'a Cause, fold: &'a Fold) -> Work<'a> {
    Work {
        task_id: &cause.task_id,
        task: fold.task(&cause.task_id),
        causes: vec![cause],
        numbers: vec![u32::try_from(number).unwrap_or(u32::MAX)],
    }
}

/// What a call about a single cause came to.
fn decided(answer: Result<Vec<Vec<Decision>>, DecideError>) -> Result<Decided, DecideError> {
    match answer {
        Ok(decisions) => Ok(match decisions.into_iter().flatten().next() {
            Some(decision) => Decided::Answer(decision),
            None => Decided::Fault(Fault::new(
                Kind::MalformedAnswer,
                "the plugin answered no decision",
            )),
        }),
        Err(DecideError::Fault(fault)) => Ok(Decided::Fault(fault)),
        Err(other) => Err(other),
    }
}

/// Takes a decision; one that breaks the plugin's own rules is this cause's fault.
pub(super) fn take(
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
        fate: match taken {
            Ok(Outcome::Deferred) if tries_again => Fate::TriedAgain,
            Ok(Outcome::Deferred) => Fate::Held,
            _ => Fate::DeadLetter,
        },
    });
}
