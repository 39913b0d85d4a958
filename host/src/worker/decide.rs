//! Asks plugins about the causes of a batch: together, or one by one after a deadline or a refusal.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskhost_core::batch::{Decided, Decider, Fold, Settings, WriteSet};
use taskhost_core::cause::Cause;
use taskhost_core::decision::Decision;
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::pauses::Pauses;
use taskhost_core::record::{Position, TopicPartition};
use taskhost_core::task::{Task, TaskId};

use super::causes::{Item, Items};
use super::plugins::Plugins;
use super::together;
use crate::plugin::{Failure as DecideError, Work};

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
    /// When dependencies were away.
    pub(super) pauses: Arc<Pauses>,
    /// Whether the decisions are kept, to be made again.
    pub(super) keep: bool,
}

/// Decisions, ready to be written.
pub(super) struct Round {
    /// What to write.
    pub(super) set: WriteSet,
    /// How many of the items it covers, from the first.
    pub(super) covered: usize,
    /// A cause that exceeded its deadline, which may have been the machine's fault: it is the next one, and to be
    /// tried again after a pause.
    pub(super) slow: Option<(Position, Fault)>,
    /// The plugins' faults, each found alone.
    pub(super) faults: Vec<Faulted>,
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
}

impl Round {
    /// The tasks behind which causes began to wait, each with its version then: 0 if there was no task.
    pub(super) fn waiting_for(&self, ground: &Ground) -> Vec<(TaskId, i64)> {
        let version = |id: &TaskId| {
            let changed = self.set.created.iter().chain(&self.set.updated);
            changed
                .chain(&ground.tasks)
                .find(|task| task.id == *id)
                .map_or(0, |task| task.version)
        };
        let heads = self.set.waiting.iter().filter(|row| row.due.is_some());
        heads
            .map(|row| (row.task_id.clone(), version(&row.task_id)))
            .collect()
    }
}

/// How often each slow cause was tried.
pub(super) type Tries = HashMap<Position, u32>;

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
    tries: &Tries,
    tries_max: u32,
    whole: bool,
) -> Result<Round, DecideError> {
    if whole {
        return together::decide(items, ground, plugins);
    }
    singly(items, ground, plugins, tries, tries_max)
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
        slow: None,
        faults,
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
    }
}

pub(super) fn fold(ground: &Ground) -> Fold {
    Fold::new(
        ground.settings.clone(),
        ground.now,
        ground.tasks.iter().cloned(),
        ground.blocked.clone(),
    )
    .forgiving(ground.pauses.clone())
}

fn singly(
    items: &Items,
    ground: &Ground,
    plugins: &Plugins,
    tries: &Tries,
    tries_max: u32,
) -> Result<Round, DecideError> {
    let (began, mut fold) = (Instant::now(), fold(ground));
    let (mut covered, mut slow, mut faults) = (0, None, Vec::new());
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
                let tried = tries.get(cause.position()).copied().unwrap_or(0);
                if let Decided::Fault(fault) = &decided
                    && fault.kind.is_retriable()
                    && tried < tries_max
                {
                    slow = Some((cause.position().clone(), fault.clone()));
                    break;
                }
                take(&mut fold, cause, decided, decider, &mut faults);
            }
        }
        covered = number + 1;
    }
    Ok(Round {
        set: fold.finish(),
        covered,
        slow,
        faults,
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
    faults.push(Faulted {
        decider: decider.clone(),
        fault: fault.clone(),
        position: cause.position().clone(),
        task_id: cause.task_id.clone(),
    });
    // Taking a fault never faults.
    let _ = fold.decided(cause, Decided::Fault(fault), decider);
}
