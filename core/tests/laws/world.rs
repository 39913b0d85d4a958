//! A group's partitions in memory, each with its log, its ladders and its part of the store; and the rounds that decide
//! what is picked, as a worker does: read, decide, commit, and again after a conflict, a deadline or a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;

use taskhost_core::batch::Settings;
use taskhost_core::record::Message;
use taskhost_core::round::{Ground, Items, Ladder, Round, Unanswered, decide};
use taskhost_core::task::TaskId;

use crate::dice::Dice;
use crate::plugin::{NOW, Plugin, Rule, settings};
use crate::reading::{Pick, Picks};
use crate::store::{Not, Store};

/// What is wrong, in words.
pub(crate) type Bad = String;

/// Where causes come from: each has a ladder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Log,
    Rows,
    Replays,
}

/// Everything.
#[derive(Debug)]
// Many fields: each part of a world can fail or be drawn by itself.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) plugin: Plugin,
    pub(crate) settings: Vec<Arc<Settings>>,
    pub(crate) log: Vec<Vec<Arc<Message>>>,
    pub(crate) ladders: Vec<[Ladder; 3]>,
    pub(crate) now: i64,
    /// How long each partition has worked, in milliseconds.
    pub(crate) worked: i64,
    /// Timestamps of messages whose outcome the database doesn't take.
    pub(crate) refused: BTreeSet<i64>,
    /// Causes of a batch at most.
    pub(crate) cap: usize,
    /// How often in a hundred another partition commits between a batch's reading and its commit.
    pub(crate) meddling: u64,
    /// How often in a hundred a hint to another partition is lost.
    pub(crate) lossy: u64,
    pub(crate) dice: Dice,
    pub(crate) story: Vec<String>,
}

impl World {
    pub(crate) fn new(partitions: usize, rule: Rule) -> Self {
        Self {
            store: Store::new(partitions),
            plugin: Plugin::new(rule),
            settings: (0..partitions)
                .map(|number| Arc::new(settings(number)))
                .collect(),
            log: vec![Vec::new(); partitions],
            ladders: vec![<[Ladder; 3]>::default(); partitions],
            now: NOW,
            worked: 0,
            refused: BTreeSet::new(),
            cap: 500,
            meddling: 0,
            lossy: 0,
            dice: Dice::new(0),
            story: Vec::new(),
        }
    }

    /// The next records of a partition's log, at most so many.
    pub(crate) fn records(&self, partition: usize, count: usize) -> Picks {
        let next = usize::try_from(self.store.shelves[partition].next_offset).expect("an offset");
        let records = self.log[partition].iter().skip(next).take(count);
        Picks {
            list: records.cloned().map(Pick::Record).collect(),
            blocked: Vec::new(),
        }
    }

    /// What a partition takes now from somewhere.
    pub(crate) fn picks(&self, partition: usize, origin: Origin, count: usize) -> Picks {
        match origin {
            Origin::Log => self.records(partition, count),
            Origin::Rows => self.store.due(partition, self.now, count),
            Origin::Replays => self.store.replays(partition, self.now, count),
        }
    }

    /// Decides what was picked until something of it is committed; says how many.
    pub(crate) fn round(
        &mut self,
        partition: usize,
        ladder: &mut Ladder,
        picks: &Picks,
        meddling: u64,
    ) -> Result<(usize, Option<Round>), Bad> {
        for _ in 0..50 {
            let rung = ladder.rung();
            let settings = self.settings[partition].clone();
            let items = self.store.items(partition, picks, &settings, &self.plugin);
            let items = items.first(rung.items_max());
            if items.is_empty() {
                return Ok((0, None));
            }
            let ground = self
                .store
                .ground(partition, &items, &settings, self.now, self.worked);
            self.plugin.begin();
            let round = match decide(&items, &ground, &rung, &self.plugin) {
                Ok(round) => round,
                Err(Unanswered::Fault(_)) => {
                    ladder.exceeded();
                    continue;
                }
                Err(machine) => return Err(machine.to_string()),
            };
            if self.dice.chance(meddling) {
                self.meddle(partition)?;
            }
            match self.commit(partition, picks, &items, &ground, &round) {
                Err(bad) => return Err(bad),
                Ok(Ok(())) => {
                    ladder.committed(round.covered, round.faults.len());
                    self.look_again(partition, &round, &ground);
                    return Ok((round.covered, Some(round)));
                }
                Ok(Err(Not::Conflict)) => {}
                Ok(Err(Not::Refused)) => ladder.refused(&rung, round.covered, "no".to_owned())?,
            }
        }
        Err("fifty tries and nothing committed".to_owned())
    }

    fn commit(
        &mut self,
        partition: usize,
        picks: &Picks,
        items: &Items,
        ground: &Ground,
        round: &Round,
    ) -> Result<Result<(), Not>, Bad> {
        let of_message = |kind: &str| kind != "fired";
        let mut events = round.set.events.iter();
        if events.any(|event| of_message(&event.kind) && self.refused.contains(&event.at)) {
            return Ok(Err(Not::Refused));
        }
        let is_log = matches!(picks.list.first(), Some(Pick::Record(_)));
        let records = if is_log { round.covered } else { 0 };
        if round.set.counts.consumed() != u64::try_from(records).expect("a few") {
            return Err(format!("{records} records and {:?}", round.set.counts));
        }
        let before = self.store.shelves[partition].rows.clone();
        let committed = self
            .store
            .commit(partition, self.now, &round.set, &ground.tasks, records);
        if committed.is_ok() {
            self.check_order(partition, items, &round.set, &before)?;
        }
        Ok(committed)
    }

    /// A change that came between the reading and the commit of a deferral is looked for afterwards.
    fn look_again(&mut self, partition: usize, round: &Round, ground: &Ground) {
        for (task_id, version) in round.waiting_for(ground) {
            if self.store.version(&task_id) != version {
                self.store.hint(partition, self.now, &task_id);
            }
        }
    }

    /// Tells the other partitions which tasks a round changed.
    pub(crate) fn tell(&mut self, partition: usize, round: &Round) {
        let changed = round.set.created.iter().chain(&round.set.updated);
        let ids: Vec<TaskId> = changed.map(|task| task.id.clone()).collect();
        for task_id in ids {
            for other in 0..self.log.len() {
                if other != partition && !self.dice.chance(self.lossy) {
                    self.store.hint(other, self.now, &task_id);
                }
            }
        }
    }
}
