//! Decides the items of a batch in as few calls as possible: all in one call, and where a plugin faults, halved until the
//! cause is found that faults alone ([`Halves`]). Only that cause becomes a dead letter.
//!
//! A deadline of several causes is not looked for in this way, because each further call would cost it again: what is
//! decided by then is the batch, and what is left is decided one by one.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::decided::Round;
use super::ground::{Ask, Ground, TIME_MAX, Unanswered, Work};
use super::halves::{Halves, Step};
use super::items::Items;
use super::single;
use super::tally::{Faulted, Tallies};
use crate::batch::{Decided, Fold};
use crate::cause::Cause;
use crate::decision::Decision;
use crate::fault::Kind;
use crate::task::TaskId;

/// Decides the items, in pieces of so many.
pub(super) fn decide<A: Ask>(
    items: &Items,
    ground: &Ground,
    piece: usize,
    ask: &A,
) -> Result<Round, Unanswered> {
    let count = items.list.len();
    let mut together = Together {
        items,
        ground,
        ask,
        fold: ground.fold(items),
        covered: 0,
        faults: Vec::new(),
        tallies: Tallies::default(),
        hopeless: false,
        decisions: vec![None; if ground.keep { count } else { 0 }],
    };
    let mut halves = Halves::of(count, piece);
    while let Some(step) = halves.step() {
        if together.covered > 0 && ask.spent() > TIME_MAX {
            break;
        }
        let asked = match step {
            Step::Together(range) => together.ask(range, &mut halves),
            Step::Alone(number) => together.ask_alone(number, &mut halves),
        };
        match asked {
            Ok(()) => {}
            Err(Unanswered::Fault(_)) if together.covered > 0 => break,
            Err(unanswered) => return Err(unanswered),
        }
        if together.hopeless {
            break;
        }
    }
    Ok(together.round())
}

struct Together<'a, A> {
    items: &'a Items,
    ground: &'a Ground,
    ask: &'a A,
    fold: Fold,
    covered: usize,
    faults: Vec<Faulted>,
    tallies: Tallies,
    /// Whether a breaker will open by this batch, so that there is no use in going on.
    hopeless: bool,
    decisions: Vec<Option<Decision>>,
}

impl<A: Ask> Together<'_, A> {
    /// Asks about a range in one call for each route and takes the answers, as far as they keep to the rules.
    ///
    /// # Errors
    /// A deadline, or the machine's trouble.
    fn ask(&mut self, range: Range<usize>, halves: &mut Halves) -> Result<(), Unanswered> {
        let mut answers = match self.answers(&range) {
            Ok(answers) => answers,
            Err(Unanswered::Fault(fault)) if fault.kind != Kind::Deadline => {
                halves.failed();
                return Ok(());
            }
            Err(unanswered) => return Err(unanswered),
        };
        let items = self.items;
        let mut discarded: HashSet<&TaskId> = HashSet::new();
        for number in range {
            if let Some(cause) = single::undecided(&mut self.fold, &items.list[number]) {
                let decider = self.ask.decider(cause.route);
                let is_blocked = self.fold.is_blocked(cause);
                match answers.remove(&number) {
                    // The plugin answered on top of what was discarded. Only a timer comes here: messages wait.
                    Some(_) if !is_blocked && discarded.contains(&cause.task_id) => {
                        halves.outdated(number);
                        return Ok(());
                    }
                    Some(answer) if !is_blocked => {
                        let kept = self.ground.keep.then(|| answer.clone());
                        let decided = Decided::Answer(answer);
                        if self.fold.decided(cause, decided, decider).is_err() {
                            halves.broke(number);
                            return Ok(());
                        }
                        self.tallies.count(cause, None, self.ground, decider);
                        if let Some(place) = self.decisions.get_mut(number) {
                            *place = kept;
                        }
                    }
                    answer => {
                        if answer.is_some() {
                            discarded.insert(&cause.task_id);
                        }
                        self.fold.behind(cause, decider);
                    }
                }
            }
            self.covered = number + 1;
        }
        Ok(())
    }

    /// Asks about one item; if the plugin faults, this is the one.
    ///
    /// # Errors
    /// The machine's trouble.
    fn ask_alone(&mut self, number: usize, halves: &mut Halves) -> Result<(), Unanswered> {
        if let Some(cause) = single::undecided(&mut self.fold, &self.items.list[number]) {
            let decider = self.ask.decider(cause.route);
            if self.fold.is_blocked(cause) {
                self.fold.behind(cause, decider);
            } else {
                let decided = single::single(number, cause, &self.fold, self.ask)?;
                let before = self.faults.len();
                single::take(&mut self.fold, cause, decided, decider, &mut self.faults);
                let fate = self.faults.get(before).map(|faulted| faulted.fate);
                if fate.is_some() {
                    halves.failed();
                }
                self.tallies.count(cause, fate, self.ground, decider);
                let rest = self.items.list.len() - number - 1;
                self.hopeless = self.tallies.is_hopeless(cause.route, rest, self.ground);
            }
        }
        self.covered = number + 1;
        Ok(())
    }

    /// A decision for each item of the range that is a cause and may be decided, by its number. One behind a replay of the
    /// range is asked about, too: whether it may be decided shows when that replay is.
    fn answers(&self, range: &Range<usize>) -> Result<HashMap<usize, Decision>, Unanswered> {
        let mut answers = HashMap::with_capacity(range.len());
        for route in self.items.routes() {
            let causes = self.items.causes().skip_while(|(at, _)| *at < range.start);
            let causes = causes.take_while(|(at, _)| *at < range.end);
            let mine = causes.filter(|(_, cause)| cause.route == route);
            let order = by_task(mine.filter(|(_, cause)| !self.fold.stays_blocked(cause)));
            if order.is_empty() {
                continue;
            }
            let works: Vec<Work<'_>> = order
                .iter()
                .map(|(id, causes)| Work {
                    task_id: id,
                    task: self.fold.task(id),
                    causes: causes.iter().map(|(_, cause)| *cause).collect(),
                    numbers: causes
                        .iter()
                        .map(|(number, _)| u32::try_from(*number).unwrap_or(u32::MAX))
                        .collect(),
                })
                .collect();
            let decided = self.ask.ask(route, &works)?;
            let numbers = order
                .iter()
                .flat_map(|(_, causes)| causes.iter().map(|(number, _)| *number));
            answers.extend(numbers.zip(decided.into_iter().flatten()));
        }
        Ok(answers)
    }

    fn round(self) -> Round {
        Round {
            set: self.fold.finish(),
            covered: self.covered,
            faults: self.faults,
            tallies: self.tallies,
            decisions: self.decisions,
        }
    }
}

/// Causes by task, tasks in the order of their first cause.
fn by_task<'a>(
    causes: impl Iterator<Item = (usize, &'a Cause)>,
) -> Vec<(&'a TaskId, Vec<(usize, &'a Cause)>)> {
    let mut order: Vec<(&TaskId, Vec<(usize, &Cause)>)> = Vec::new();
    let mut place: HashMap<&TaskId, usize> = HashMap::new();
    for (number, cause) in causes {
        let at = *place.entry(&cause.task_id).or_insert_with(|| {
            order.push((&cause.task_id, Vec::new()));
            order.len() - 1
        });
        order[at].1.push((number, cause));
    }
    order
}
