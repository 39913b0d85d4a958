//! Draws a world from a seed: its rule, its logs, and what waited before its first record.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use taskhost_core::batch::{Decided, Retries, Wakeup, WakeupKind};
use taskhost_core::cause::{Cause, OnDeadLetter, Stored};
use taskhost_core::dead_letter::{DeadLetter, Source, Stage};
use taskhost_core::decision::TimerOrder;
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::record::{Message, Position};
use taskhost_core::task::{Task, TaskId, derived_id};
use taskhost_core::waiting::{Rank, Why};
use uuid::Uuid;

use crate::dice::Dice;
use crate::plugin::{NOW, ROUTES, Rule, apply, defer, fields, here, ignore, named_rule, reject};
use crate::reading::row_of;
use crate::store::Kept;
use crate::world::World;

/// The topic's id before it was made again.
const OLD_TOPIC_ID: Uuid = Uuid::from_u128(66);

/// What the drawn rule does at a status and a kind of message.
#[derive(Debug, Clone, Copy)]
enum Does {
    Apply(usize),
    SetTimer(usize),
    Ignore,
    Reject,
    Defer(u64),
    /// Defers, and then applies.
    DeferOnce(usize),
    BadAnswer,
    Trap,
}

/// A world, and what its people may do with it.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) world: World,
    pub(crate) tasks: usize,
    pub(crate) kinds: usize,
    /// Whether attempts are without end.
    pub(crate) endless: bool,
    /// Set while the plugin traps at some messages.
    pub(crate) traps: Rc<Cell<bool>>,
    pub(crate) on_probation: bool,
    /// How many messages there have been: each has a number of its own, which is in its timestamp.
    pub(crate) messages: i64,
    /// How many orders there have been.
    pub(crate) orders: i64,
    /// Messages of each partition that were there before its first record.
    pub(crate) given: Vec<i64>,
}

impl Drawn {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let races = dice.chance(25);
        let partitions = dice.one(if races { &[2, 2, 3] } else { &[1, 1, 2, 2, 3] });
        let tasks = if races { 1 } else { dice.one(&[1, 1, 2]) };
        let kinds = dice.one(&[3, 4, 5]);
        let traps = Rc::new(Cell::new(true));
        let mut drawn = Self {
            world: World::new(partitions, named_rule()),
            tasks,
            kinds,
            endless: dice.chance(50),
            traps,
            on_probation: !races && dice.chance(30),
            messages: 0,
            orders: 0,
            given: vec![0; partitions],
        };
        drawn.world.dice = dice;
        drawn.plugin(races);
        drawn.limits(races);
        drawn.logs(races);
        drawn.earlier();
        drawn
    }

    fn plugin(&mut self, races: bool) {
        let rule = draw_rule(&mut self.world.dice, self.kinds, races, &self.traps);
        self.world.plugin.rule = rule;
        let dice = &mut self.world.dice;
        self.world.plugin.cost = Duration::from_millis(dice.one(&[0, 0, 900]));
        let holds = dice.chance(30);
        let hold = self.on_probation.then_some(Duration::from_millis(200));
        self.world.plugin.each(|decider| {
            decider.hold = hold;
            if holds {
                decider.on_dead_letter = OnDeadLetter::HoldTask;
            }
        });
    }

    fn limits(&mut self, races: bool) {
        let dice = &mut self.world.dice;
        self.world.cap = dice.one(&[1, 2, 3, 50]);
        self.world.meddling = if races { 60 } else { 30 };
        self.world.lossy = dice.one(&[0, 0, 50]);
        let attempts_max = if self.endless {
            u32::MAX
        } else {
            dice.one(&[3, 6])
        };
        for settings in &mut self.world.settings {
            let settings = Arc::make_mut(settings);
            settings.deferral.attempts_max = attempts_max;
            settings.deferral.age_max = Duration::from_secs(1_000_000);
            settings.deferral.delay_max = Duration::from_millis(100);
            settings.retries = Retries {
                max: 2,
                backoff: Duration::from_millis(4),
                backoff_max: Duration::from_millis(10),
            };
        }
    }

    fn logs(&mut self, races: bool) {
        let refuses = self.world.dice.chance(15);
        for partition in 0..self.world.log.len() {
            for offset in 0..2 + self.world.dice.below(8) {
                let offset = i64::try_from(offset).expect("small");
                let message = self.message(here(partition).at(offset), races);
                if refuses && self.world.dice.chance(10) {
                    self.world.refused.insert(message.timestamp);
                }
                self.world.log[partition].push(message);
            }
        }
    }

    /// Imported dead letters, and what is left of an earlier topic of the same name.
    fn earlier(&mut self) {
        let partitions = self.world.log.len();
        if self.world.dice.chance(30) {
            let partition = self.world.dice.below(partitions);
            let elsewhere = Position {
                topic: "elsewhere".into(),
                partition: 3,
                offset: 5,
            };
            let message = self.message(elsewhere, true);
            let id = Uuid::from_u128(1_000_000);
            self.keep(partition, id, message, "imported", None);
        }
        if !self.world.dice.chance(20) {
            return;
        }
        for partition in 0..partitions {
            for offset in 0..1 + self.world.dice.below(2) {
                let offset = i64::try_from(offset).expect("small");
                let message = self.message(here(partition).at(offset), true);
                let id = derived_id(message.position.seed(OLD_TOPIC_ID), "dead-letter");
                self.keep(partition, id, message, "no-way", Some(offset - 10));
            }
            if self.world.dice.chance(50) {
                self.earlier_row(partition);
            }
        }
    }

    fn keep(
        &mut self,
        partition: usize,
        id: Uuid,
        message: Arc<Message>,
        code: &str,
        sequence: Option<i64>,
    ) {
        let decider = &self.world.plugin.deciders[0];
        let holds = decider.on_dead_letter == OnDeadLetter::HoldTask && sequence.is_some();
        let task_id = task_of(&message);
        let letter = letter_of(id, message, code, task_id, sequence, holds);
        let shelf = &mut self.world.store.shelves[partition];
        shelf.letters.insert(id, Kept::new(letter));
        shelf.counts.dead_letters += 1;
        self.given[partition] += 1;
    }

    fn earlier_row(&mut self, partition: usize) {
        let message = self.message(here(partition).at(5), true);
        let id = derived_id(message.position.seed(OLD_TOPIC_ID), "deferred");
        let task_id = task_of(&message).expect("a task");
        let row = Wakeup {
            kind: WakeupKind::Deferred,
            rank: Rank::of_record(-5),
            due: Some(NOW),
            why: Why::Turn,
            cause: Stored::Message(Message::clone(&message)).encode(),
            ..row_of(id, task_id, ROUTES[0].to_owned())
        };
        let shelf = &mut self.world.store.shelves[partition];
        shelf.rows.insert(id, row);
        shelf.counts.deferred += 1;
        self.given[partition] += 1;
    }

    /// A drawn message; a plain one is decoded and neither slow nor one at which the plugin traps.
    fn message(&mut self, position: Position, is_plain: bool) -> Arc<Message> {
        let dice = &mut self.world.dice;
        let (task, kind) = (dice.below(self.tasks), dice.below(self.kinds));
        let slow = if is_plain {
            0
        } else {
            dice.one(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4])
        };
        let traps = !is_plain && dice.chance(15);
        let value = match !is_plain && dice.chance(4) {
            true => "{".to_owned(),
            false => body(task, kind, slow, traps),
        };
        let task_type = if dice.chance(8) { "other" } else { "thing" };
        self.messages += 1;
        Arc::new(Message {
            position,
            timestamp: NOW + self.messages,
            key: None,
            value: Some(value.into_bytes()),
            headers: vec![("taskType".to_owned(), Some(task_type.into()))],
        })
    }
}

/// A message's body.
pub(crate) fn body(task: usize, kind: usize, slow: i32, traps: bool) -> String {
    format!(r#"{{"id":"task-{task}","ask":"{kind}","slow":"{slow}","traps":"{traps}"}}"#)
}

/// The task that a message names.
pub(crate) fn task_of(message: &Message) -> Option<TaskId> {
    let value: serde_json::Value = serde_json::from_slice(message.value.as_deref()?).ok()?;
    TaskId::new(value["id"].as_str()?).ok()
}

pub(crate) fn letter_of(
    id: Uuid,
    message: Arc<Message>,
    code: &str,
    task_id: Option<TaskId>,
    sequence: Option<i64>,
    holds: bool,
) -> DeadLetter {
    DeadLetter {
        id,
        message,
        code: code.to_owned(),
        reason: String::new(),
        backtrace: None,
        stage: Stage::Decide,
        attempts: 1,
        task_id,
        route: Some(ROUTES[0].to_owned()),
        plugin: None,
        failed_at: NOW,
        source: Source::Record,
        replays: 0,
        sequence,
        holds,
    }
}

fn draw_rule(dice: &mut Dice, kinds: usize, races: bool, traps: &Rc<Cell<bool>>) -> Rule {
    let mut table: HashMap<(String, String), Does> = HashMap::new();
    for status in ["", "s0", "s1", "s2"] {
        for kind in 0..kinds {
            let does = match (status, races) {
                ("", true) => missing_in_races(dice),
                ("", false) => missing(dice),
                _ => existing(dice),
            };
            table.insert((status.to_owned(), kind.to_string()), does);
        }
    }
    let traps = traps.clone();
    Rc::new(move |task, cause| {
        let fields = fields(cause);
        let status = task.map_or("", |task| &*task.status);
        // After a wrong answer within a call, the task is as no rule knows it.
        let known = table.get(&(status.to_owned(), fields["ask"].clone()));
        let does = *known.unwrap_or(&Does::Ignore);
        if !cause.is_message() {
            return answer_to_timer(does, task);
        }
        if traps.get() && fields["traps"] == "true" {
            return Decided::Fault(Fault::new(Kind::Trap, "boom"));
        }
        let slow: i32 = fields["slow"].parse().expect("a number");
        if cause.attempt() == 0 && cause.tries() < slow {
            return Decided::Fault(Fault::new(Kind::Deadline, "too slow"));
        }
        answer(does, task, cause, &fields["ask"])
    })
}

fn answer(does: Does, task: Option<&Task>, cause: &Cause, kind: &str) -> Decided {
    let cancel = || TimerOrder::Cancel { name: "t".into() };
    let event = if task.is_none() { "opened" } else { "stepped" };
    match does {
        Does::Apply(to) => apply(task, &format!("s{to}"), event, cancel()),
        Does::SetTimer(to) => {
            let timer = TimerOrder::Set {
                name: "t".into(),
                due: NOW + (cause.at - NOW) * 3,
                data: format!(r#"{{"ask":"{kind}"}}"#),
            };
            apply(task, &format!("s{to}"), event, timer)
        }
        Does::Ignore => ignore(),
        Does::Reject => reject(),
        Does::Defer(delay) => defer(Duration::from_millis(delay)),
        Does::DeferOnce(_) if cause.attempt() < 1 => defer(Duration::from_millis(1)),
        Does::DeferOnce(to) => apply(task, &format!("s{to}"), event, cancel()),
        Does::BadAnswer => apply(task, "nowhere", event, cancel()),
        Does::Trap => Decided::Fault(Fault::new(Kind::Trap, "bang")),
    }
}

/// A timer sets no other, so that every world comes to rest.
fn answer_to_timer(does: Does, task: Option<&Task>) -> Decided {
    match does {
        Does::Apply(to) => {
            let cancel = TimerOrder::Cancel { name: "u".into() };
            apply(task, &format!("s{to}"), "fired", cancel)
        }
        Does::Defer(delay) => defer(Duration::from_millis(delay)),
        Does::Reject => reject(),
        _ => ignore(),
    }
}

fn missing(dice: &mut Dice) -> Does {
    let to = dice.below(3);
    match dice.below(100) {
        0..48 => Does::Defer(dice.one(&[1, 5, 50])),
        48..73 => Does::Apply(to),
        73..80 => Does::Ignore,
        80..87 => Does::Reject,
        87..90 => Does::BadAnswer,
        90..93 => Does::Trap,
        _ => Does::DeferOnce(to),
    }
}

fn missing_in_races(dice: &mut Dice) -> Does {
    let to = dice.below(3);
    match dice.below(100) {
        0..70 => Does::Defer(dice.one(&[1, 5, 50])),
        70..85 => Does::Apply(to),
        85..92 => Does::Ignore,
        _ => Does::Reject,
    }
}

fn existing(dice: &mut Dice) -> Does {
    let to = dice.below(3);
    match dice.below(100) {
        0..48 => Does::Apply(to),
        48..62 => Does::Ignore,
        62..74 => Does::Reject,
        74..86 => Does::Defer(dice.one(&[1, 5, 50])),
        86..94 => Does::SetTimer(to),
        94..97 => Does::BadAnswer,
        _ => Does::Trap,
    }
}
