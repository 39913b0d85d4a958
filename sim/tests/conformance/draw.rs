//! Draws rounds: most of them right for what the tables hold, some of them stale in one way or another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use taskhost::store::{Checkpoint, Key, NewStart};
use taskhost_core::batch::{Postponed, Wakeup, WakeupKind, WriteSet};
use taskhost_core::dead_letter::{DeadLetter, Source, Stage};
use taskhost_core::record::{Message, Record};
use taskhost_core::replay::{End, Replayed};
use taskhost_core::task::{PluginVersion, Task, TaskEvent, TaskId};
use taskhost_core::waiting::{Rank, Why};
use taskhost_sim::ledger::Tables;
use uuid::Uuid;

/// The topic's id.
pub(crate) const TOPIC_ID: Uuid = Uuid::from_u128(7);

/// Some time.
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// A round to be committed.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) tasks: Vec<TaskId>,
    pub(crate) rows: Vec<Uuid>,
    pub(crate) letters: Vec<Uuid>,
    pub(crate) set: WriteSet,
    pub(crate) seen: BTreeMap<TaskId, i64>,
    pub(crate) activations: Vec<(String, i64)>,
    pub(crate) starts: Vec<NewStart>,
    pub(crate) now: i64,
    pub(crate) records: i64,
    pub(crate) published: Option<i64>,
    /// Whether the partition is said to be where it isn't.
    pub(crate) is_astray: bool,
    pub(crate) checkpoint: Checkpoint,
}

/// Chance.
pub(crate) struct Draw(SmallRng);

pub(crate) fn task_ids() -> Vec<TaskId> {
    (0..5)
        .map(|number| TaskId::new(format!("task-{number}")).unwrap())
        .collect()
}

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.random()
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end.max(1))
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    pub(crate) fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        of.iter().filter(|_| self.chance(50)).cloned().collect()
    }

    pub(crate) fn time(&mut self) -> i64 {
        NOW + i64::try_from(self.below(20)).unwrap() * 1000
    }

    /// A round over what the tables hold.
    pub(crate) fn round(&mut self, tables: &Tables, key: &Key, number: u64) -> Round {
        let row = tables.progress.get(key);
        let next = row.and_then(|row| row.at.next_offset).unwrap_or(0);
        let mut round = Round {
            tasks: Vec::new(),
            rows: Vec::new(),
            letters: Vec::new(),
            set: WriteSet::default(),
            seen: BTreeMap::new(),
            activations: self.activations(tables),
            starts: Vec::new(),
            now: self.time(),
            records: 0,
            published: self
                .chance(30)
                .then(|| i64::try_from(self.below(30)).unwrap()),
            is_astray: self.chance(5),
            checkpoint: Checkpoint {
                batch: i64::try_from(self.below(9)).unwrap(),
                next_offset: next,
                token: None,
            },
        };
        if self.chance(20) {
            round.starts.push(NewStart {
                route: "in".to_owned(),
                number: i64::try_from(1 + self.below(3)).unwrap(),
                first_offset: next,
            });
        }
        for id in self.some(&task_ids()) {
            self.task(tables, &mut round, &id, next, key);
            round.tasks.push(id);
        }
        self.rows(tables, &mut round, key);
        self.letters(&mut round, next, key, number);
        round.set.created.sort_by(|a, b| a.id.cmp(&b.id));
        round.set.updated.sort_by(|a, b| a.id.cmp(&b.id));
        round.set.records = vec![Record {
            topic: "out".to_owned(),
            key: Some(number.to_be_bytes().to_vec()),
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }];
        round.records = i64::try_from(round.set.counts.consumed()).unwrap();
        round
    }

    fn activations(&mut self, tables: &Tables) -> Vec<(String, i64)> {
        let all = tables.activations.iter();
        let current = all.map(|(route, all)| (route.clone(), i64::try_from(all.len()).unwrap()));
        let mut current: Vec<(String, i64)> = current.collect();
        if self.chance(6) {
            current[0].1 -= 1;
        }
        current
    }

    /// Changes a task, or makes something wait for it.
    fn task(&mut self, tables: &Tables, round: &mut Round, id: &TaskId, next: i64, key: &Key) {
        let stored = tables.tasks.get(id);
        let version = stored.map_or(0, |task| task.version);
        let is_stale = self.chance(6);
        let seen = version - i64::from(is_stale);
        if seen > 0 {
            round.seen.insert(id.clone(), seen);
        }
        let offset = next + i64::try_from(round.set.counts.consumed()).unwrap();
        match self.below(4) {
            0 => self.wait(round, id, offset, version, key),
            1 if self.chance(50) => {
                let name = ["a", "b"][self.below(2)].to_owned();
                let timer = self.chance(70).then(|| self.timer(id, &name, key));
                round.set.timers.insert((id.clone(), name), timer);
                self.change(round, id, seen.max(0), offset, key);
            }
            _ => self.change(round, id, seen.max(0), offset, key),
        }
        if self.chance(60) {
            round.set.settled.insert(id.clone());
        }
    }

    fn change(&mut self, round: &mut Round, id: &TaskId, seen: i64, offset: i64, key: &Key) {
        let task = Task {
            id: id.clone(),
            kind: "thing".into(),
            status: "open".into(),
            data: format!("{{\"n\":{}}}", seen + 1).into(),
            version: seen + 1,
            created_at: NOW,
            updated_at: NOW + offset,
        };
        round.set.events.push(TaskEvent {
            task_id: id.clone(),
            version: seen + 1,
            number: 0,
            kind: "changed".to_owned(),
            from: (seen > 0).then(|| "open".into()),
            to: "open".into(),
            data: "{}".to_owned(),
            at: NOW + offset,
            cause: key.partition.at(offset),
            cause_bytes: Arc::new([1, 2, 3]),
            plugin: Arc::new(PluginVersion {
                name: "rule".to_owned(),
                version: "1.0.0".to_owned(),
                digest: "ab".repeat(32),
            }),
            basis: None,
            trace_id: "1".repeat(32),
            foreign_trace_id: None,
        });
        match seen {
            0 => round.set.created.push(task),
            _ => round.set.updated.push(task),
        }
        round.set.counts.applied += 1;
    }

    fn wait(&mut self, round: &mut Round, id: &TaskId, offset: i64, version: i64, key: &Key) {
        let why = match version {
            0 => Why::TaskMissing,
            _ => [Why::Turn, Why::Deferral, Why::Deadline, Why::Held][self.below(4)],
        };
        let due = (why != Why::Turn).then(|| self.time());
        round.set.waiting.push(Wakeup {
            id: self.id(key, offset),
            kind: WakeupKind::Deferred,
            task_id: id.clone(),
            name: None,
            route: "in".to_owned(),
            due,
            counts_from: due,
            rank: Rank::of_record(offset),
            why,
            attempt: 1,
            tries: 0,
            since: NOW,
            since_worked: Some(0),
            given_up_by: None,
            reason: "not yet".to_owned(),
            cause: vec![7; self.below(900)],
        });
        round.set.counts.deferred += 1;
    }

    fn timer(&mut self, id: &TaskId, name: &str, key: &Key) -> Wakeup {
        Wakeup {
            id: Uuid::from_u128(self.0.random()),
            kind: WakeupKind::Timer,
            task_id: id.clone(),
            name: Some(name.to_owned()),
            route: key.partition.topic.to_string(),
            due: Some(self.time()),
            counts_from: None,
            rank: Rank::of_record(0),
            why: Why::Turn,
            attempt: 0,
            tries: 0,
            since: NOW,
            since_worked: None,
            given_up_by: None,
            reason: String::new(),
            cause: vec![1],
        }
    }

    /// Sometimes one that a row has already, as when a record is decided twice.
    fn id(&mut self, key: &Key, offset: i64) -> Uuid {
        let partition = u128::from(key.partition.partition.unsigned_abs());
        match self.chance(4) {
            true => Uuid::from_u128((partition + 1) << 100),
            false => Uuid::from_u128(((partition + 1) << 100) + u128::from(offset.unsigned_abs())),
        }
    }

    /// Ends, moves and blocks rows; some of them are gone by now.
    fn rows(&mut self, tables: &Tables, round: &mut Round, key: &Key) {
        let own = tables.rows.values().filter(|(owner, _)| owner == key);
        let own: Vec<Wakeup> = own
            .map(|(_, row)| row.clone())
            .filter(|row| row.kind != WakeupKind::Replay)
            .collect();
        let is_unset = |row: &Wakeup| {
            let name = row.name.clone().unwrap_or_default();
            let timer = (row.task_id.clone(), name);
            row.kind == WakeupKind::Timer && round.set.timers.contains_key(&timer)
        };
        let own: Vec<Wakeup> = own.into_iter().filter(|row| !is_unset(row)).collect();
        for row in own {
            if !self.chance(25) {
                continue;
            }
            round.rows.push(row.id);
            if !round.tasks.contains(&row.task_id) {
                round.tasks.push(row.task_id.clone());
            }
            match (self.below(3), row.kind) {
                (0, WakeupKind::Deferred) => {
                    round.set.postponed.push(Postponed {
                        id: row.id,
                        task_id: row.task_id.clone(),
                        why: [Why::Deferral, Why::Deadline, Why::TaskMissing][self.below(3)],
                        due: self.time(),
                        attempt: row.attempt + 1,
                        tries: 1,
                        since_worked: Some(5),
                        reason: "still not".to_owned(),
                    });
                    round.set.counts.deferred += 1;
                    round.set.counts.left_waiting += 1;
                }
                (1, WakeupKind::Deferred) => {
                    round.set.turned.insert(row.id);
                }
                (_, WakeupKind::Timer) => {
                    round.set.done.push(row.id);
                    round.set.counts.timers += 1;
                }
                _ => {
                    round.set.done.push(row.id);
                    round.set.counts.ignored += 1;
                    round.set.counts.left_waiting += 1;
                }
            }
            if self.chance(70) {
                round.set.settled.insert(row.task_id);
            }
        }
        if self.chance(3) {
            round.rows.push(Uuid::from_u128(u128::MAX));
        }
        self.replays(tables, round, key);
    }

    /// Ends replays.
    fn replays(&mut self, tables: &Tables, round: &mut Round, key: &Key) {
        use taskhost::store::State;
        let letters = tables.letters.values();
        let replaying = letters.filter(|letter| {
            letter.stored.owner == *key && letter.stored.state == State::Replaying
        });
        let replaying: BTreeSet<(Uuid, Uuid)> = replaying
            .filter_map(|letter| Some((letter.stored.letter.id, letter.wakeup?)))
            .collect();
        for (letter, row) in replaying {
            if !self.chance(40) {
                continue;
            }
            round.rows.push(row);
            round.letters.push(letter);
            round.set.done.push(row);
            let end = match self.below(3) {
                0 => End::Applied,
                1 => End::Ignored,
                _ => {
                    let stored = &tables.letters[&letter].stored.letter;
                    let again = DeadLetter {
                        code: "again".to_owned(),
                        attempts: 2,
                        ..stored.clone()
                    };
                    End::Failed {
                        letter: Box::new(again),
                        parked: self.chance(30),
                    }
                }
            };
            round.set.counts.ignored += 1;
            round.set.counts.left_dead_letters += 1;
            round.set.replayed.push(Replayed { letter, end });
        }
    }

    fn letters(&mut self, round: &mut Round, next: i64, key: &Key, number: u64) {
        if !self.chance(35) {
            return;
        }
        let offset = next + i64::try_from(round.set.counts.consumed()).unwrap();
        let code = ["no-way", "task-missing"][self.below(2)];
        let id = match self.chance(10) {
            // A record that was given up before.
            true => Uuid::from_u128(1 << 90),
            false => Uuid::from_u128((1 << 90) + u128::from(number) + 1),
        };
        let tasks = task_ids();
        round.set.dead_letters.push(DeadLetter {
            id,
            message: Arc::new(Message {
                position: key.partition.at(offset),
                timestamp: NOW,
                key: Some(b"k".to_vec()),
                value: Some(vec![b'x'; self.below(900)]),
                headers: vec![("h".to_owned(), Some(vec![1, 200])), ("n".to_owned(), None)],
            }),
            code: code.to_owned(),
            reason: "as drawn".to_owned(),
            backtrace: None,
            stage: Stage::Decide,
            attempts: 1,
            task_id: self.one(&tasks).cloned(),
            route: Some("in".to_owned()),
            plugin: None,
            failed_at: NOW,
            source: Source::Record,
            replays: 0,
            sequence: Some(offset),
            holds: self.chance(50),
        });
        round.set.counts.dead_letters += 1;
    }
}
