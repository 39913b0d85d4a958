//! One item: what of it is to be decided, the answer to it alone, and what is taken of an answer.

use std::sync::Arc;

use super::ground::{Ask, Unanswered, Work};
use super::item::Item;
use super::tally::{Fate, Faulted};
use crate::batch::{Decided, Decider, Fold};
use crate::cause::Cause;
use crate::fault::{Fault, Kind};

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
        Item::GivenUp(given_up) => {
            fold.given_up(given_up);
            None
        }
    }
}

/// Asks about one cause, in a fresh instance.
pub(super) fn single(
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
        fate: Fate::of(&taken, tries_again),
    });
}
