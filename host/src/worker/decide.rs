//! Asks plugins about the causes of a batch: all at once, or one by one after a fault.

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
use crate::plugin::{Failure as DecideError, Work};

/// How long a batch that is decided one by one may keep its transaction open. What is left goes into the next batch.
/// Far below `idle_in_transaction_session_timeout` (10 s), and long enough for hundreds of causes.
const SINGLY_TIME_MAX: Duration = Duration::from_secs(2);

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
    /// The plugins' faults that became dead letters.
    pub(super) faults: Vec<(Arc<Decider>, Fault)>,
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

/// Decides the items, at once if `whole`, and one by one if not or if a plugin faults.
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
        match at_once(items, ground, plugins) {
            Ok(round) => return Ok(round),
            // Its transaction has been open for long enough: the next one begins one by one.
            Err(DecideError::Fault(fault)) if fault.kind == Kind::Deadline => {
                return Err(DecideError::Fault(fault));
            }
            Err(DecideError::Fault(fault)) => {
                tracing::debug!(
                    kind = fault.kind.code(),
                    "a batch faulted and is decided one by one"
                );
            }
            Err(other) => return Err(other),
        }
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
    }
}

fn fold(ground: &Ground) -> Fold {
    Fold::new(
        ground.settings.clone(),
        ground.now,
        ground.tasks.iter().cloned(),
        ground.blocked.clone(),
    )
    .forgiving(ground.pauses.clone())
}

fn at_once(items: &Items, ground: &Ground, plugins: &Plugins) -> Result<Round, DecideError> {
    let mut fold = fold(ground);
    let mut answers = answers(items, &fold, ground, plugins)?;
    for (number, item) in items.list.iter().enumerate() {
        let Some(cause) = undecided(&mut fold, item) else {
            continue;
        };
        let decider = plugins.decider(cause.route);
        match answers[number].take() {
            Some(answer) if !fold.is_blocked(cause) => {
                fold.decided(cause, Decided::Answer(answer), decider)
                    .map_err(DecideError::Fault)?;
            }
            _ => drop(fold.behind(cause, decider)),
        }
    }
    Ok(Round {
        set: fold.finish(),
        covered: items.list.len(),
        slow: None,
        faults: Vec::new(),
    })
}

/// A decision for each item that is a cause and may be decided.
fn answers(
    items: &Items,
    fold: &Fold,
    ground: &Ground,
    plugins: &Plugins,
) -> Result<Vec<Option<Decision>>, DecideError> {
    let mut answers: Vec<Option<Decision>> = vec![None; items.list.len()];
    for route in items.routes() {
        let mut order: Vec<(&TaskId, Vec<(usize, &Cause)>)> = Vec::new();
        let mut place: HashMap<&TaskId, usize> = HashMap::new();
        for (number, cause) in items.causes().filter(|(_, cause)| cause.route == route) {
            if fold.is_blocked(cause) {
                continue;
            }
            let at = *place.entry(&cause.task_id).or_insert_with(|| {
                order.push((&cause.task_id, Vec::new()));
                order.len() - 1
            });
            order[at].1.push((number, cause));
        }
        if order.is_empty() {
            continue;
        }
        let works: Vec<Work<'_>> = order
            .iter()
            .map(|(id, causes)| Work {
                task_id: id,
                task: fold.task(id),
                causes: causes.iter().map(|(_, cause)| *cause).collect(),
                numbers: causes
                    .iter()
                    .map(|(number, _)| u32::try_from(*number).unwrap_or(u32::MAX))
                    .collect(),
            })
            .collect();
        let decided = plugins.decide(route, &works, &ground.settings.partition)?;
        let numbers = order
            .iter()
            .flat_map(|(_, causes)| causes.iter().map(|(number, _)| *number));
        for (number, decision) in numbers.zip(decided.into_iter().flatten()) {
            answers[number] = Some(decision);
        }
    }
    Ok(answers)
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
    })
}

/// Asks about one cause, in a fresh instance.
fn single(
    number: usize,
    cause: &Cause,
    fold: &Fold,
    plugins: &Plugins,
    partition: &TopicPartition,
) -> Result<Decided, DecideError> {
    let work = Work {
        task_id: &cause.task_id,
        task: fold.task(&cause.task_id),
        causes: vec![cause],
        numbers: vec![u32::try_from(number).unwrap_or(u32::MAX)],
    };
    match plugins.decide(cause.route, &[work], partition) {
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
fn take(
    fold: &mut Fold,
    cause: &Cause,
    decided: Decided,
    decider: &Arc<Decider>,
    faults: &mut Vec<(Arc<Decider>, Fault)>,
) {
    let fault = match decided {
        Decided::Fault(fault) => fault,
        answer @ Decided::Answer(_) => match fold.decided(cause, answer, decider) {
            Ok(_) => return,
            Err(fault) => fault,
        },
    };
    faults.push((decider.clone(), fault.clone()));
    // Taking a fault never faults.
    let _ = fold.decided(cause, Decided::Fault(fault), decider);
}
