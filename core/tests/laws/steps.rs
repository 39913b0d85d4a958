//! What happens in a drawn world: partitions decide, time passes, people give orders; and at the end it comes to rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use taskhost_core::dead_letter::Source;
use taskhost_core::outcome::Counts;
use taskhost_core::record::Message;
use taskhost_core::round::{Ladder, Round};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::Why;
use uuid::Uuid;

use crate::draw::{Drawn, body, task_of};
use crate::plugin::{NOW, here};
use crate::reading::{Pick, Picks};
use crate::store::{Shelf, State};
use crate::world::{Bad, Origin, World};

impl World {
    /// Decides what a partition takes from somewhere, at most so many causes. Says whether there was anything.
    pub(crate) fn turn(
        &mut self,
        partition: usize,
        origin: Origin,
        count: usize,
    ) -> Result<bool, Bad> {
        let picks = self.picks(partition, origin, count);
        if picks.is_empty() {
            return Ok(false);
        }
        self.tell_story(partition, origin, &picks);
        let place = origin as usize;
        let mut ladder = self.ladders[partition][place].clone();
        let before = (self.meddling > 0 && self.dice.chance(40)).then(|| self.store.clone());
        let meddling = if before.is_some() { 0 } else { self.meddling };
        let (covered, round) = self.round(partition, &mut ladder, &picks, meddling)?;
        self.ladders[partition][place] = ladder;
        if let Some(before) = before {
            let whole = std::mem::replace(&mut self.store, before);
            self.one_by_one(partition, &picks, covered)?;
            self.compare(&whole)?;
        }
        if let Some(round) = round {
            self.tell(partition, &round);
            self.read_what_was_sent_again(partition, &round);
        }
        Ok(true)
    }

    fn one_by_one(&mut self, partition: usize, picks: &Picks, covered: usize) -> Result<(), Bad> {
        let blocked = Picks {
            list: Vec::new(),
            blocked: picks.blocked.clone(),
        };
        let singles = picks.list[..covered].iter().map(|pick| Picks {
            list: vec![pick.clone()],
            blocked: Vec::new(),
        });
        for single in std::iter::once(blocked).chain(singles) {
            self.round(partition, &mut Ladder::default(), &single, 0)?;
        }
        Ok(())
    }

    /// Another partition decides something between a batch's reading and its commit.
    pub(crate) fn meddle(&mut self, partition: usize) -> Result<(), Bad> {
        if self.log.len() < 2 {
            return Ok(());
        }
        let other = (partition + 1 + self.dice.below(self.log.len() - 1)) % self.log.len();
        let origin = self
            .dice
            .one(&[Origin::Log, Origin::Log, Origin::Rows, Origin::Replays]);
        let count = 1 + self.dice.below(4);
        let picks = self.picks(other, origin, count);
        self.tell_story(other, origin, &picks);
        let round = self.round(other, &mut Ladder::default(), &picks, 0)?.1;
        if let Some(round) = round {
            self.tell(other, &round);
            self.read_what_was_sent_again(other, &round);
        }
        Ok(())
    }

    /// A dead letter that is sent to its topic again is a new record there.
    fn read_what_was_sent_again(&mut self, partition: usize, round: &Round) {
        let is_sent = |name: &str| name == "taskhost-dlq-id";
        for record in &round.set.records {
            if record.headers.iter().any(|(name, _)| is_sent(name)) && record.topic == "in" {
                let offset = i64::try_from(self.log[partition].len()).expect("small");
                let known: usize = self.log.iter().map(Vec::len).sum();
                let message = Message {
                    position: here(partition).at(offset),
                    timestamp: NOW + 10_000 + i64::try_from(known).expect("small"),
                    key: record.key.clone(),
                    value: record.value.clone(),
                    headers: record.headers.clone(),
                };
                self.log[partition].push(Arc::new(message));
            }
        }
    }

    fn tell_story(&mut self, partition: usize, origin: Origin, picks: &Picks) {
        let shelf = &self.store.shelves[partition];
        let named = picks.list.iter().map(|pick| match pick {
            Pick::Record(message) => {
                format!("{} {}", message.position.offset, text_of(message))
            }
            Pick::Row(id) => match shelf.rows.get(id) {
                Some(row) => format!(
                    "{:?} {} of {}",
                    (row.rank.sequence, row.rank.place),
                    row.why.name(),
                    row.task_id
                ),
                None => "a timer".to_owned(),
            },
            Pick::Replay(id, rank) => {
                let kept = shelf.letter_of(*id).expect("a letter");
                format!(
                    "replay {:?} {}",
                    (rank.sequence, rank.place),
                    text_of(&kept.message)
                )
            }
        });
        let named: Vec<String> = named.collect();
        let turned = picks.blocked.len();
        let now = self.now - NOW;
        self.story.push(format!(
            "{now}: {partition} takes {origin:?} {named:?}, {turned} blocked"
        ));
    }
}

fn text_of(message: &Message) -> String {
    String::from_utf8_lossy(message.value.as_deref().unwrap_or_default()).into_owned()
}

impl Drawn {
    /// Lives, comes to rest, and is looked at.
    pub(crate) fn run(&mut self) -> Result<(), Bad> {
        for _ in 0..8 + self.world.dice.below(32) {
            let partition = self.world.dice.below(self.world.log.len());
            let count = 1 + self.world.dice.below(5);
            let (origin, count) = match self.world.dice.below(100) {
                0..45 => (Origin::Log, count),
                45..80 => (Origin::Rows, self.world.cap),
                _ => (Origin::Replays, self.world.cap),
            };
            self.world.turn(partition, origin, count)?;
            self.check_outcomes()?;
            self.world.now += self.world.dice.one(&[0, 0, 1, 2, 10]);
            self.world.worked = self.world.now - NOW;
            if self.world.dice.chance(15) {
                self.person();
            }
            if self.on_probation && self.world.dice.chance(3) {
                self.end_probation();
            }
        }
        self.end_probation();
        self.come_to_rest()?;
        self.check_rest()
    }

    /// Decides until nothing changes any more.
    fn come_to_rest(&mut self) -> Result<(), Bad> {
        let (mut quiet, mut last) = (0, String::new());
        for _ in 0..400 {
            for partition in 0..self.world.log.len() {
                self.exhaust(partition)?;
            }
            self.check_outcomes()?;
            self.world.now += 50;
            self.world.worked = self.world.now - NOW;
            let looks = self.looks();
            quiet = if looks == last { quiet + 1 } else { 0 };
            last = looks;
            if quiet > 5 {
                return Ok(());
            }
        }
        Err("it never comes to rest".to_owned())
    }

    /// Decides all that a partition may decide now.
    fn exhaust(&mut self, partition: usize) -> Result<(), Bad> {
        let cap = self.world.cap;
        for (origin, count) in [
            (Origin::Log, 3),
            (Origin::Rows, cap),
            (Origin::Replays, cap),
        ] {
            let mut rounds = 0;
            while self.world.turn(partition, origin, count)? {
                rounds += 1;
                if rounds > 300 {
                    return Err(format!(
                        "{origin:?} of {partition} are taken again and again"
                    ));
                }
            }
        }
        Ok(())
    }

    fn looks(&self) -> String {
        let store = &self.world.store;
        let versions: Vec<i64> = store.tasks.values().map(|task| task.version).collect();
        let shelf = |shelf: &Shelf| {
            let attempt = |attempt| {
                if self.endless {
                    i32::min(attempt, 1)
                } else {
                    attempt
                }
            };
            let rows = shelf.rows.values();
            let rows: Vec<_> = rows
                .map(|row| (row.id, row.why, attempt(row.attempt), row.tries))
                .collect();
            let letters: Vec<State> = shelf.letters.values().map(|kept| kept.state).collect();
            format!(
                "{} {rows:?} {letters:?} {}",
                shelf.next_offset,
                shelf.replays.len()
            )
        };
        let shelves: Vec<String> = store.shelves.iter().map(shelf).collect();
        format!("{versions:?} {shelves:?} {:?}", store.timers.keys())
    }

    fn end_probation(&mut self) {
        if !self.on_probation {
            return;
        }
        self.on_probation = false;
        // Either the version stays, or the one before it comes back.
        let stays = self.world.dice.chance(50);
        self.traps.set(stays);
        self.world.plugin.each(|decider| decider.hold = None);
        let now = self.world.now;
        for shelf in &mut self.world.store.shelves {
            let rows = shelf.rows.values_mut();
            rows.filter(|row| row.why == Why::Held)
                .for_each(|row| row.due = Some(now));
        }
        self.world
            .story
            .push(format!("probation ends, the version stays: {stays}"));
    }

    fn person(&mut self) {
        let partition = self.world.dice.below(self.world.log.len());
        let shelf = &self.world.store.shelves[partition];
        let of = |wanted: fn(State) -> bool| -> Vec<Uuid> {
            let letters = shelf.letters.iter().filter(|(_, kept)| wanted(kept.state));
            letters.map(|(id, _)| *id).collect()
        };
        let open = of(|state| state == State::Open);
        let waiting = of(|state| matches!(state, State::Waiting(_)));
        if !open.is_empty() && self.world.dice.chance(65) {
            for _ in 0..1 + self.world.dice.below(open.len()) {
                let letter = self.world.dice.one(&open);
                self.order_or_discard(partition, letter);
            }
        } else if !waiting.is_empty() && self.world.dice.chance(30) {
            let letter = self.world.dice.one(&waiting);
            self.cancel(partition, letter);
        } else if self.world.dice.chance(15) {
            self.give_up_or_hurry(partition);
        }
    }

    fn order_or_discard(&mut self, partition: usize, letter: Uuid) {
        let kept = &self.world.store.shelves[partition].letters[&letter];
        if kept.state != State::Open {
            return;
        }
        let (message, source) = (kept.message.clone(), kept.letter.source);
        let is_edited = source == Source::Record && self.world.dice.chance(25);
        let edit = is_edited.then(|| self.edited(&message));
        let (discards, republish) = (self.world.dice.chance(15), self.world.dice.chance(5));
        let shelf = &mut self.world.store.shelves[partition];
        let kept = shelf.letters.get_mut(&letter).expect("a letter");
        self.world.story.push(format!(
            "{partition}: letter {:?} {} discarded {discards}, edited {:?}",
            kept.letter.sequence,
            kept.letter.code,
            edit.as_deref().map(text_of)
        ));
        if discards {
            kept.state = State::Settled;
            shelf.dropped += u64::from(source == Source::Record);
            let task_id = kept.letter.task_id.clone();
            let (now, tasks) = (self.world.now, task_id.into_iter().collect());
            self.world.store.settle(partition, now, &tasks);
            return;
        }
        kept.message = edit.unwrap_or(message);
        kept.republish = republish && source == Source::Record;
        self.orders += 1;
        shelf.order(letter, self.orders);
    }

    /// A message that a person changed: perhaps it is for another task.
    fn edited(&mut self, message: &Message) -> Arc<Message> {
        let dice = &mut self.world.dice;
        let (other, kind) = (dice.below(self.tasks), dice.below(self.kinds));
        let same = task_of(message).and_then(|id| id.as_str().strip_prefix("task-")?.parse().ok());
        let task = if dice.chance(30) {
            other
        } else {
            same.unwrap_or(other)
        };
        Arc::new(Message {
            value: Some(body(task, kind, 0, false).into_bytes()),
            ..message.clone()
        })
    }

    /// A replay that waits is a dead letter again.
    fn cancel(&mut self, partition: usize, letter: Uuid) {
        let shelf = &mut self.world.store.shelves[partition];
        let kept = shelf.letters.get_mut(&letter).expect("a letter");
        let State::Waiting(row) = kept.state else {
            return;
        };
        let row = shelf.rows.remove(&row).expect("a row");
        let mut tasks: BTreeSet<TaskId> = kept.letter.task_id.iter().cloned().collect();
        tasks.insert(row.task_id.clone());
        kept.state = State::Open;
        kept.letter.code = "cancelled".to_owned();
        kept.letter.task_id = Some(row.task_id);
        given_up(shelf);
        let now = self.world.now;
        self.world.store.settle(partition, now, &tasks);
        self.world
            .story
            .push(format!("{partition}: replay of {letter} cancelled"));
    }

    fn give_up_or_hurry(&mut self, partition: usize) {
        let shelf = &mut self.world.store.shelves[partition];
        let rows: Vec<Uuid> = shelf.rows.keys().copied().collect();
        if rows.is_empty() {
            return;
        }
        let id = self.world.dice.one(&rows);
        let row = shelf.rows[&id].clone();
        let rank = (row.rank.sequence, row.rank.place);
        if self.world.dice.chance(50) {
            let now = self.world.now;
            let row = shelf.rows.get_mut(&id).expect("a row");
            row.given_up_by = Some("somebody".to_owned());
            row.due = row.due.map(|_| now);
            self.world
                .story
                .push(format!("{partition}: row {rank:?} given up"));
        } else if row.due.is_some() {
            let row = shelf.rows.get_mut(&id).expect("a row");
            row.due = Some(self.world.now);
            self.world
                .story
                .push(format!("{partition}: row {rank:?} is due"));
        }
    }
}

/// Counts a row that became a dead letter.
fn given_up(shelf: &mut Shelf) {
    let counts = Counts {
        dead_letters: 1,
        left_waiting: 1,
        ..Counts::default()
    };
    shelf.counts += counts;
}
