//! Carries tasks from cause to cause and collects what has to be written.

mod given_up;
mod holding;
mod order;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::publish;
use super::{Decider, Settings, Wakeup, WakeupKind, WriteSet};
use crate::cause::{Cause, OnDeadLetter, Source, Timer, Waited, waiting_seed};
use crate::dead_letter::{self, DeadLetter, Stage};
use crate::decision::{self, Decision, TimerOrder, Transition};
use crate::envelope::Undecodable;
use crate::fault::{Fault, Kind};
use crate::outcome::Outcome;
use crate::record::Message;
use crate::task::{Basis, Task, TaskEvent, TaskId, derived_id};
use crate::waiting::{Ahead, Rank, Why};
use holding::Holding;

/// What was decided about a cause.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    /// The plugin's answer, unchecked.
    Answer(Decision),
    /// The plugin's fault, which is this cause's alone.
    Fault(Fault),
}

/// A batch on its way from decisions to a write set.
#[derive(Debug)]
pub struct Fold {
    pub(super) settings: Arc<Settings>,
    /// Milliseconds since 1970, for dead letters and deferrals only: no decision sees it.
    now: i64,
    tasks: HashMap<TaskId, Slot>,
    /// What waits of each task, of this partition: outside of the batch, and of its causes so far.
    ahead: HashMap<TaskId, Ahead>,
    /// The batch's replays of dead letters that hold their task, until each is decided.
    holding: Vec<Holding>,
    /// The partition's working time in milliseconds: what waits grows older by it.
    worked: i64,
    pub(super) out: WriteSet,
}

/// A task within the batch.
#[derive(Debug)]
struct Slot {
    task: Task,
    /// Whether it has a row.
    stored: bool,
    changed: bool,
}

impl Fold {
    /// Begins with the tasks as read, and what waits of them in the partition besides the batch's own causes.
    pub fn new(
        settings: Arc<Settings>,
        now: i64,
        tasks: impl IntoIterator<Item = Task>,
        ahead: HashMap<TaskId, Ahead>,
    ) -> Self {
        let slot = |task: Task| {
            (
                task.id.clone(),
                Slot {
                    task,
                    stored: true,
                    changed: false,
                },
            )
        };
        Self {
            settings,
            now,
            tasks: tasks.into_iter().map(slot).collect(),
            ahead,
            holding: Vec::new(),
            worked: 0,
            out: WriteSet::default(),
        }
    }

    /// Says how long the partition has worked so far, in milliseconds: no message grows older by anything else.
    #[must_use]
    pub fn having_worked(mut self, worked: i64) -> Self {
        self.worked = worked;
        self
    }

    /// A task as the causes so far left it.
    pub fn task(&self, id: &TaskId) -> Option<&Task> {
        self.tasks.get(id).map(|slot| &slot.task)
    }

    /// Takes a record that is no cause: a dead letter.
    pub fn undecodable(
        &mut self,
        message: &Arc<Message>,
        why: &Undecodable,
        waited: Option<&Waited>,
    ) -> Outcome {
        let topic_id = self.settings.topic_id;
        let seed = match waited {
            Some(waited) => waiting_seed(waited.wakeup, &message.position, topic_id),
            None => message.position.seed(topic_id),
        };
        let letter = DeadLetter {
            id: derived_id(seed, "dead-letter"),
            message: message.clone(),
            code: why.code.to_owned(),
            reason: decision::clean(&why.reason),
            backtrace: None,
            stage: Stage::Decode,
            attempts: 0,
            task_id: None,
            route: None,
            plugin: None,
            failed_at: self.now,
            source: dead_letter::Source::Record,
            replays: 0,
            sequence: Some(sequence_of(message, waited)),
            // Nobody knows its task.
            holds: false,
        };
        self.dead_letter(letter, waited);
        self.out.done.extend(waited.map(|waited| waited.wakeup));
        self.settle_row(waited);
        self.count("", Outcome::DeadLetter, waited)
    }

    /// Takes a cause and what was decided about it.
    ///
    /// # Errors
    /// The plugin's fault, if the answer is not one that its descriptor and the task allow; then nothing of this
    /// cause was taken.
    pub fn decided(
        &mut self,
        cause: &Cause,
        decided: Decided,
        decider: &Decider,
    ) -> Result<Outcome, Fault> {
        if let Source::Timer(timer) = &cause.source
            && !cause.is_new_replay()
            && self
                .out
                .timers
                .contains_key(&(cause.task_id.clone(), timer.name.clone()))
        {
            return Ok(Outcome::Ignored);
        }
        let outcome = self.take(cause, decided, decider)?;
        self.settle(cause);
        Ok(outcome)
    }

    fn take(
        &mut self,
        cause: &Cause,
        decided: Decided,
        decider: &Decider,
    ) -> Result<Outcome, Fault> {
        let outcome = match decided {
            Decided::Fault(fault) => match self.chance(cause, decider, &fault) {
                Some(outcome) => return Ok(outcome),
                None => self.fault(cause, decider, fault),
            },
            Decided::Answer(answer) => {
                match decision::check(answer, self.task(&cause.task_id), &decider.descriptor)? {
                    Decision::Apply(transition) => self.apply(cause, decider, transition)?,
                    Decision::Ignore { .. } => Outcome::Ignored,
                    Decision::Reject { code, reason } => {
                        self.give_up(cause, decider, code, &reason, None)
                    }
                    Decision::Defer { reason, delay } => {
                        return Ok(self.defer(cause, decider, &reason, delay));
                    }
                }
            }
        };
        Ok(self.finish_cause(cause, decider, outcome))
    }

    /// The write set, tasks in id order.
    pub fn finish(mut self) -> WriteSet {
        let mut changed: Vec<Slot> = self
            .tasks
            .into_values()
            .filter(|slot| slot.changed)
            .collect();
        changed.sort_by(|a, b| a.task.id.cmp(&b.task.id));
        for slot in changed {
            match slot.stored {
                true => self.out.updated.push(slot.task),
                false => self.out.created.push(slot.task),
            }
        }
        self.out
    }

    fn finish_cause(&mut self, cause: &Cause, decider: &Decider, outcome: Outcome) -> Outcome {
        if let Some(waited) = &cause.waited {
            self.out.done.push(waited.wakeup);
            self.replay_ends(waited, outcome);
        }
        match cause.is_message() {
            true => self.count(&decider.route, outcome, cause.waited.as_ref()),
            false if cause.is_new_replay() => outcome,
            false => {
                self.out.counts.timers += 1;
                outcome
            }
        }
    }

    pub(super) fn count(
        &mut self,
        route: &str,
        outcome: Outcome,
        waited: Option<&Waited>,
    ) -> Outcome {
        let replayed = waited.is_some_and(Waited::is_new_replay);

        let by_route = match self.out.counts_by_route.get_mut(route) {
            Some(counts) => counts,
            None => self
                .out
                .counts_by_route
                .entry(route.to_owned())
                .or_default(),
        };
        for counts in [by_route, &mut self.out.counts] {
            counts.add(outcome);
            counts.left_waiting += u64::from(waited.is_some() && !replayed);
            counts.left_dead_letters += u64::from(replayed);
        }
        outcome
    }

    fn apply(
        &mut self,
        cause: &Cause,
        decider: &Decider,
        transition: Transition,
    ) -> Result<Outcome, Fault> {
        let before = self.tasks.get(&cause.task_id).map(|slot| &slot.task);
        let from = before.map(|task| task.status.clone());
        let after = Task {
            id: cause.task_id.clone(),
            kind: before.map_or_else(|| cause.task_type.clone(), |task| task.kind.clone()),
            status: transition.status.as_str().into(),
            data: transition.data.as_str().into(),
            version: before.map_or(0, |task| task.version) + 1,
            created_at: before.map_or(cause.at, |task| task.created_at),
            updated_at: cause.at,
        };
        let mut records = Vec::with_capacity(transition.events.len() + transition.messages.len());
        let events = self.events(cause, decider, &transition, from.as_ref(), &after);
        for event in &events {
            records.push(publish::task_event(
                event,
                &after,
                &cause.trace,
                &self.settings.events_topic,
            ));
        }
        for message in &transition.messages {
            let Some(topic) = decider.topics.get(&message.topic) else {
                let reason = format!(
                    "the host's configuration maps no topic to `{}`",
                    message.topic
                );
                return Err(Fault::new(Kind::UndeclaredTopic, reason));
            };
            records.push(publish::outgoing(message, topic, cause, &after));
        }
        if let Some(record) = records.iter().find(|record| !self.settings.fits(record)) {
            let reason = format!(
                "a record of {} bytes is more than the topic `{}` takes",
                record.size(),
                record.topic
            );
            return Err(Fault::new(Kind::AnswerTooLarge, reason));
        }
        for order in transition.timers {
            self.timer(cause, decider, &after, order);
        }
        self.out.events.extend(events);
        self.out.records.extend(records);
        match self.tasks.get_mut(&cause.task_id) {
            Some(slot) => {
                slot.task = after;
                slot.changed = true;
            }
            None => drop(self.tasks.insert(
                after.id.clone(),
                Slot {
                    task: after,
                    stored: false,
                    changed: true,
                },
            )),
        }
        Ok(Outcome::Applied)
    }

    fn events(
        &self,
        cause: &Cause,
        decider: &Decider,
        transition: &Transition,
        from: Option<&Arc<str>>,
        after: &Task,
    ) -> Vec<TaskEvent> {
        let bytes: Arc<[u8]> = cause.encode().into();
        (0..)
            .zip(&transition.events)
            .map(|(number, event)| TaskEvent {
                task_id: after.id.clone(),
                version: after.version,
                number,
                kind: event.kind.clone(),
                from: from.cloned(),
                to: after.status.clone(),
                data: event.data.clone(),
                at: cause.at,
                cause: cause.position().clone(),
                cause_bytes: bytes.clone(),
                plugin: decider.plugin.clone(),
                basis: Some(Basis {
                    decider: decider.record.clone(),
                    attempt: cause.attempt(),
                    seed: cause.seed,
                }),
                trace_id: cause.trace.trace_id.clone(),
                foreign_trace_id: cause.trace.foreign.clone(),
            })
            .collect()
    }

    fn timer(&mut self, cause: &Cause, decider: &Decider, after: &Task, order: TimerOrder) {
        let (name, wakeup) = match order {
            TimerOrder::Cancel { name } => (name, None),
            TimerOrder::Set { name, due, data } => {
                let timer = Timer {
                    name: name.clone(),
                    due,
                    data,
                    set_by: cause.position().clone(),
                    trace: cause.trace.clone(),
                };
                let wakeup = Wakeup {
                    id: derived_id(cause.seed, &format!("timer:{}:{name}", after.version)),
                    kind: WakeupKind::Timer,
                    task_id: after.id.clone(),
                    name: Some(name.clone()),
                    route: decider.route.to_string(),
                    due: Some(due),
                    counts_from: None,
                    rank: Rank::of_record(cause.position().offset),
                    why: Why::Turn,
                    attempt: 0,
                    tries: 0,
                    since: due,
                    since_worked: None,
                    given_up_by: None,
                    reason: String::new(),
                    cause: crate::cause::Stored::Timer(timer).encode(),
                };
                (name, Some(wakeup))
            }
        };
        self.out.timers.insert((after.id.clone(), name), wakeup);
    }

    fn fault(&mut self, cause: &Cause, decider: &Decider, fault: Fault) -> Outcome {
        self.give_up(
            cause,
            decider,
            fault.kind.code().to_owned(),
            &fault.reason,
            fault.backtrace,
        )
    }

    fn give_up(
        &mut self,
        cause: &Cause,
        decider: &Decider,
        code: String,
        reason: &str,
        backtrace: Option<String>,
    ) -> Outcome {
        let message = match &cause.source {
            Source::Message { message, .. } => message.clone(),
            Source::Timer(timer) => Arc::new(timer_as_message(timer, &cause.task_id)),
        };
        let source = match &cause.source {
            Source::Message { .. } => dead_letter::Source::Record,
            Source::Timer(_) => dead_letter::Source::Timer,
        };
        let letter = DeadLetter {
            id: letter_id(cause),
            message,
            code,
            reason: decision::clean(reason),
            backtrace: backtrace.map(|text| text.replace('\0', "\u{fffd}")),
            stage: Stage::Decide,
            attempts: cause.decided_before() + 1,
            task_id: Some(cause.task_id.clone()),
            route: Some(decider.route.to_string()),
            plugin: Some(decider.plugin.clone()),
            failed_at: self.now,
            source,
            replays: 0,
            sequence: cause.is_message().then(|| cause.rank().sequence),
            holds: self.holds(cause, decider),
        };
        if letter.holds {
            let is_missing = letter.code == dead_letter::TASK_MISSING;
            self.waits(&cause.task_id, cause.rank(), is_missing);
        }
        self.dead_letter(letter, cause.waited.as_ref());
        Outcome::DeadLetter
    }

    /// Whether the cause's dead letter holds its task. One that was imported has no place, and holds nothing.
    fn holds(&self, cause: &Cause, decider: &Decider) -> bool {
        let replay = cause
            .waited
            .as_ref()
            .and_then(|waited| waited.replay.as_ref());
        match replay {
            Some(replay) => replay.holds,
            None => cause.is_message() && decider.on_dead_letter == OnDeadLetter::HoldTask,
        }
    }

    fn dead_letter(&mut self, letter: DeadLetter, waited: Option<&Waited>) {
        let letter = letter.of_replay(waited.and_then(|waited| waited.replay.as_ref()));
        let Settings {
            dead_letter_topic,
            group,
            spring_headers,
            ..
        } = &*self.settings;
        let fits = |record: &_| self.settings.fits(record);
        let record = letter.record_that_fits(dead_letter_topic, group, *spring_headers, fits);
        self.out.records.extend(record);
        match waited.is_some_and(|waited| waited.replay.is_some()) {
            true => self.replay_fails(letter),
            false => self.out.dead_letters.push(letter),
        }
    }
}

fn sequence_of(message: &Message, waited: Option<&Waited>) -> i64 {
    waited.map_or(message.position.offset, |waited| waited.rank.sequence)
}

fn letter_id(cause: &Cause) -> Uuid {
    derived_id(cause.seed, "dead-letter")
}

/// A timer given up on, in the form of a record: its data, with the task's id as the key.
fn timer_as_message(timer: &Timer, task_id: &TaskId) -> Message {
    Message {
        position: timer.set_by.clone(),
        timestamp: timer.due,
        key: Some(task_id.as_str().as_bytes().to_vec()),
        value: Some(timer.data.clone().into_bytes()),
        headers: [
            (dead_letter::TIMER_NAME, timer.name.clone()),
            ("traceparent", timer.trace.traceparent()),
        ]
        .map(|(name, value)| (name.to_owned(), Some(value.into_bytes())))
        .into(),
    }
}
