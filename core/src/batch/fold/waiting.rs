//! Causes that wait: why, until when, and how often before they are given up.

use std::time::Duration;

use uuid::Uuid;

use super::super::{Decider, Postponed, Wakeup, WakeupKind};
use super::Fold;
use crate::cause::{Cause, WAITING_ROW};
use crate::dead_letter;
use crate::decision;
use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::retry;
use crate::task::derived_id;
use crate::waiting::Why;

/// A cause is to wait.
#[derive(Debug, Clone, Copy)]
struct Wait {
    why: Why,
    /// None while it waits behind another.
    due: Option<i64>,
    attempt: i32,
    tries: i32,
    /// None if its age counts from its next decision on.
    since_worked: Option<i64>,
}

impl Fold {
    /// Takes a cause that waits behind an earlier one of its task.
    pub fn behind(&mut self, cause: &Cause, decider: &Decider) -> Outcome {
        self.waits(&cause.task_id, cause.rank(), false);
        let outcome = match &cause.waited {
            Some(waited) if !cause.is_new_replay() => {
                // One that isn't due stays as it is.
                if waited.due.is_some_and(|due| due <= self.now) {
                    self.out.turned.insert(waited.wakeup);
                }
                Outcome::Deferred
            }
            _ => {
                let wait = Wait {
                    why: Why::Turn,
                    due: None,
                    attempt: 0,
                    tries: 0,
                    // Its age starts with its turn.
                    since_worked: None,
                };
                self.wait(
                    cause,
                    decider,
                    "an earlier message of this task waits",
                    wait,
                )
            }
        };
        self.settle(cause);
        outcome
    }

    /// Takes a plugin's deferral: the cause waits, or is given up if it did so for too long.
    pub(super) fn defer(
        &mut self,
        cause: &Cause,
        decider: &Decider,
        reason: &str,
        delay: Duration,
    ) -> Outcome {
        let limits = self.settings.deferral;
        let early = self.before_its_time(cause);
        let attempt = cause.attempt() + i32::from(early.is_none());
        let since = self.since_worked(cause);
        let age = self.worked.saturating_sub(since).max(0);
        let too_often = i64::from(attempt) > i64::from(limits.attempts_max);
        if early.is_none() && (too_often || age > millis(limits.age_max)) {
            let code = match self.task(&cause.task_id) {
                None => dead_letter::TASK_MISSING,
                Some(_) => "deferred-too-long",
            };
            let reason = format!("it waited for {age} ms and {attempt} decisions: {reason}");
            let outcome = self.give_up(cause, decider, code.to_owned(), &reason, None);
            return self.finish_cause(cause, decider, outcome);
        }
        let delay = retry::doubled(
            delay,
            attempt.unsigned_abs().saturating_sub(1),
            limits.delay_min,
            limits.delay_max,
        );
        let wait = Wait {
            why: match self.task(&cause.task_id) {
                None if cause.is_message() => Why::TaskMissing,
                _ => Why::Deferral,
            },
            due: Some(early.unwrap_or_else(|| self.after(delay))),
            attempt,
            tries: 0,
            since_worked: Some(since),
        };
        self.wait(cause, decider, reason, wait)
    }

    /// The time that an earlier deferral set, if it is still to come: the cause was only made due sooner, because its task
    /// changed. So a task that others change a hundred times doesn't use up the attempts of what waits for it.
    fn before_its_time(&self, cause: &Cause) -> Option<i64> {
        let waited = cause.waited.as_ref()?;
        let deferred = matches!(waited.why, Why::Deferral | Why::TaskMissing);
        waited.counts_from.filter(|due| deferred && self.now < *due)
    }

    /// Whether a fault is a deadline that is tried again before it counts.
    pub fn tries_again(&self, cause: &Cause, fault: &Fault) -> bool {
        fault.kind.is_retriable() && cause.tries().unsigned_abs() < self.settings.retries.max
    }

    /// What a fault does not count for yet: a deadline is tried again a few times, as the machine may have been at
    /// fault, and what faults on probation is held for whatever comes after the probation. None if it counts.
    pub(super) fn chance(
        &mut self,
        cause: &Cause,
        decider: &Decider,
        fault: &Fault,
    ) -> Option<Outcome> {
        let (retries, tries) = (self.settings.retries, cause.tries());
        let (attempt, before) = (cause.attempt(), tries.unsigned_abs());
        let wait = if self.tries_again(cause, fault) {
            // Drawn from the cause, so that deciding it again gives the same time.
            let drawn = fraction(derived_id(
                cause.seed,
                &format!("deadline:{attempt}:{tries}"),
            ));
            let backoff = retry::full_jitter(retries.backoff, before, retries.backoff_max, drawn);
            Wait {
                why: Why::Deadline,
                due: Some(self.after(backoff)),
                attempt,
                tries: tries + 1,
                since_worked: Some(self.since_worked(cause)),
            }
        } else {
            Wait {
                why: Why::Held,
                due: Some(self.after(decider.hold?)),
                attempt,
                tries: 0,
                since_worked: None,
            }
        };
        Some(self.wait(cause, decider, &fault.reason, wait))
    }

    /// Makes a cause wait. Later ones of its task wait behind it.
    fn wait(&mut self, cause: &Cause, decider: &Decider, reason: &str, wait: Wait) -> Outcome {
        if cause.is_message() {
            let is_missing = wait.why == Why::TaskMissing;
            self.waits(&cause.task_id, cause.rank(), is_missing);
        }
        match (&cause.waited, wait.due) {
            (Some(_), _) if cause.is_new_replay() && cause.is_message() => {
                let wakeup = self.waiting(cause, decider, reason, wait);
                self.replay_waits(cause, decider, wakeup)
            }
            (Some(waited), Some(due)) => {
                self.out.postponed.push(Postponed {
                    id: waited.wakeup,
                    task_id: cause.task_id.clone(),
                    why: wait.why,
                    due,
                    attempt: wait.attempt,
                    tries: wait.tries,
                    since_worked: wait.since_worked,
                    reason: decision::clean(reason),
                });
                Outcome::Deferred
            }
            (Some(_), None) => Outcome::Deferred,
            (None, _) => {
                let wakeup = self.waiting(cause, decider, reason, wait);
                self.out.waiting.push(wakeup);
                self.count(&decider.route, Outcome::Deferred, None)
            }
        }
    }

    /// The row of a cause that waits.
    fn waiting(&self, cause: &Cause, decider: &Decider, reason: &str, wait: Wait) -> Wakeup {
        Wakeup {
            id: derived_id(cause.seed, WAITING_ROW),
            kind: WakeupKind::Deferred,
            task_id: cause.task_id.clone(),
            name: None,
            route: decider.route.to_string(),
            due: wait.due,
            counts_from: wait.due,
            rank: cause.rank(),
            why: wait.why,
            attempt: wait.attempt,
            tries: wait.tries,
            since: self.now,
            since_worked: wait.since_worked,
            given_up_by: None,
            reason: decision::clean(reason),
            cause: cause.encode(),
        }
    }

    /// The working time at which a cause began to wait: now, if that isn't known.
    fn since_worked(&self, cause: &Cause) -> i64 {
        let waited = cause.waited.as_ref();
        waited
            .and_then(|waited| waited.since_worked)
            .unwrap_or(self.worked)
    }

    fn after(&self, delay: Duration) -> i64 {
        self.now.saturating_add(millis(delay))
    }
}

/// A number between 0 and 1 of an id.
fn fraction(id: Uuid) -> f64 {
    let [a, b, c, d, ..] = *id.as_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
