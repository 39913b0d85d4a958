//! What a batch is about: which records, rows and replays a partition takes now, and how they are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use taskhost_core::batch::{Settings, Wakeup, WakeupKind};
use taskhost_core::record::Message;
use taskhost_core::round::{Ask, Ground, Items, Letter, Letters, Reading};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::{Ahead, Caps, Chain, Rank, Selection, Waiting, Why, select};
use uuid::Uuid;

use crate::plugin::{NOW, Plugin, TOPIC_ID, routes, trace};
use crate::store::{Order, Shelf, State, Store};

/// One thing that a partition takes.
#[derive(Debug, Clone)]
pub(crate) enum Pick {
    Record(Arc<Message>),
    Row(Uuid),
    /// A replay, at the rank that it had when it was taken.
    Replay(Uuid, Rank),
}

/// What a batch is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picks {
    /// All of one kind.
    pub(crate) list: Vec<Pick>,
    pub(crate) blocked: Vec<(TaskId, Uuid)>,
}

impl Picks {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.blocked.is_empty()
    }
}

impl Store {
    /// The items of what was picked, as far as it is still there, read now.
    pub(crate) fn items(
        &self,
        partition: usize,
        picks: &Picks,
        settings: &Settings,
        plugin: &Plugin,
    ) -> Items {
        let mut routes = routes();
        for (number, route) in routes.iter_mut().enumerate() {
            route.on_dead_letter = plugin.decider(number).on_dead_letter;
        }
        let reading = Reading {
            routes: &routes,
            partition: &settings.partition,
            topic_id: TOPIC_ID,
            descriptor: &|route| plugin.decider(route).descriptor.clone(),
            trace: &|_| trace(),
            next_span: &Clone::clone,
        };
        let shelf = &self.shelves[partition];
        let records = picks.list.iter().filter_map(|pick| match pick {
            Pick::Record(message) => Some(message),
            Pick::Row(_) | Pick::Replay(..) => None,
        });
        let mut items = Items::of_records(records, &reading);
        if items.list.is_empty() {
            let rows = picks
                .list
                .iter()
                .filter_map(|pick| self.row(partition, pick));
            let rows: Vec<Wakeup> = rows.collect();
            let letters = rows.iter().filter_map(|row| {
                let kept = shelf.letter_of(row.id)?;
                let letter = Letter {
                    letter: kept.letter.clone(),
                    message: kept.message.clone(),
                    republish: kept.republish,
                };
                Some((row.id, letter))
            });
            let (of_rows, stranded) = Items::of_rows(&rows, &Letters(letters.collect()), &reading);
            assert_eq!(stranded, [], "every route is configured");
            items = of_rows;
        }
        items.blocked = picks.blocked.clone();
        items
    }

    fn row(&self, partition: usize, pick: &Pick) -> Option<Wakeup> {
        let shelf = &self.shelves[partition];
        match pick {
            Pick::Record(_) => None,
            Pick::Row(id) => {
                let timer = self.timers.get(id).map(|(_, row)| row);
                shelf.rows.get(id).or(timer).cloned()
            }
            Pick::Replay(id, rank) => {
                let order = shelf.replays.iter().find(|order| order.row.id == *id)?;
                Some(Wakeup {
                    rank: *rank,
                    ..order.row.clone()
                })
            }
        }
    }

    /// What the items are decided on.
    pub(crate) fn ground(
        &self,
        partition: usize,
        items: &Items,
        settings: &Arc<Settings>,
        now: i64,
        worked: i64,
    ) -> Ground {
        let tasks = items.tasks();
        let (rows, letters) = (items.rows(), items.letters());
        let shelf = &self.shelves[partition];
        let ahead = |task_id: &TaskId| (task_id.clone(), shelf.ahead(task_id, &rows, &letters));
        Ground {
            settings: settings.clone(),
            now,
            worked,
            ahead: tasks.iter().map(ahead).collect::<HashMap<_, _>>(),
            tasks: tasks
                .iter()
                .filter_map(|id| self.tasks.get(id).cloned())
                .collect(),
            breakers: BTreeMap::new(),
            is_probe: false,
            keep: true,
        }
    }

    /// The rows that are due of a partition: looked for by their time, at most `cap`, and then chosen chain by chain.
    pub(crate) fn due(&self, partition: usize, now: i64, cap: usize) -> Picks {
        let shelf = &self.shelves[partition];
        let is_due = |row: &&Wakeup| row.due.is_some_and(|due| due <= now);
        let mut hits: Vec<&Wakeup> = shelf.rows.values().filter(is_due).collect();
        hits.sort_by_key(|row| (row.due, row.rank));
        hits.truncate(cap);
        let mut chains: Vec<Chain> = Vec::new();
        for hit in &hits {
            if chains.iter().all(|chain| chain.task_id != hit.task_id) {
                let exists = self.tasks.contains_key(&hit.task_id);
                chains.push(shelf.chain_of(&hit.task_id, exists, &hits, cap));
            }
        }
        let caps = Caps {
            count: cap,
            bytes: u64::MAX,
        };
        let Selection { taken, blocked } = select(&chains, now, caps);
        let mut list: Vec<Pick> = taken.into_iter().map(Pick::Row).collect();
        let timers = self
            .timers
            .values()
            .filter(|(owner, _)| *owner == partition);
        let mut timers: Vec<&Wakeup> = timers.map(|(_, row)| row).filter(is_due).collect();
        timers.sort_by_key(|row| (row.due, row.id));
        list.extend(timers.into_iter().map(|row| Pick::Row(row.id)).take(cap));
        Picks { list, blocked }
    }

    /// The replays that a partition takes: in the order of their ranks.
    pub(crate) fn replays(&self, partition: usize, now: i64, cap: usize) -> Picks {
        let shelf = &self.shelves[partition];
        let ready = shelf
            .replays
            .iter()
            .filter(|order| order.row.due.is_none_or(|due| due <= now));
        let mut ranked: Vec<(Rank, Uuid)> = ready
            .map(|order| (shelf.rank(order), order.row.id))
            .collect();
        ranked.sort_unstable();
        ranked.truncate(cap);
        let list = ranked.into_iter().map(|(rank, id)| Pick::Replay(id, rank));
        Picks {
            list: list.collect(),
            blocked: Vec::new(),
        }
    }
}

impl Shelf {
    /// Where a replay stands: at its record's place; if it has none, behind the last record that was decided.
    fn rank(&self, order: &Order) -> Rank {
        match self.letters[&order.letter].letter.sequence {
            Some(sequence) => Rank::of_record(sequence),
            None => Rank {
                sequence: self.next_offset - 1,
                place: order.number,
            },
        }
    }

    /// What waits of a task, besides a batch's own rows and replays.
    fn ahead(&self, task_id: &TaskId, rows: &[Uuid], letters: &[Uuid]) -> Ahead {
        let mut ahead = Ahead::default();
        for row in self.chain(task_id) {
            if !rows.contains(&row.id) {
                ahead.add(row.rank, row.why == Why::TaskMissing);
            }
        }
        self.add_letters(&mut ahead, task_id, letters);
        ahead
    }

    fn add_letters(&self, ahead: &mut Ahead, task_id: &TaskId, without: &[Uuid]) {
        for (id, kept) in &self.letters {
            if let Some((rank, is_missing)) = kept.hold(task_id).filter(|_| !without.contains(id)) {
                ahead.add(rank, is_missing);
            }
        }
    }

    /// A chain as a batch reads it: its hits, the first row that isn't free, and as many behind that as a batch takes.
    fn chain_of(&self, task_id: &TaskId, exists: bool, hits: &[&Wakeup], cap: usize) -> Chain {
        let mut letters = Ahead::default();
        self.add_letters(&mut letters, task_id, &[]);
        let rows = self.chain(task_id);
        let head = rows
            .iter()
            .position(|row| exists || row.why != Why::TaskMissing);
        let behind = head.map_or(0..0, |head| head..head.saturating_add(cap));
        let read = rows.iter().enumerate().filter(|(number, row)| {
            behind.contains(number) || hits.iter().any(|hit| hit.id == row.id)
        });
        let rows = read.map(|(_, row)| Waiting {
            id: row.id,
            rank: row.rank,
            why: row.why,
            due: row.due,
            bytes: u64::try_from(row.cause.len()).expect("small"),
        });
        Chain {
            task_id: task_id.clone(),
            exists,
            letters,
            rows: rows.collect(),
        }
    }

    /// Orders that a dead letter be decided again.
    pub(crate) fn order(&mut self, letter: Uuid, number: i64) {
        let kept = self.letters.get_mut(&letter).expect("a letter");
        kept.state = State::Replaying;
        let nobody = || TaskId::new("unknown").expect("an id");
        let task_id = kept.letter.task_id.clone().unwrap_or_else(nobody);
        let row = row_of(
            Uuid::new_v5(&letter, format!("order:{number}").as_bytes()),
            task_id,
            kept.letter.route.clone().unwrap_or_default(),
        );
        self.replays.push(Order {
            letter,
            row,
            number,
        });
    }
}

/// A row for a replay of a task's dead letter, or for what was there before.
pub(crate) fn row_of(id: Uuid, task_id: TaskId, route: String) -> Wakeup {
    Wakeup {
        id,
        kind: WakeupKind::Replay,
        task_id,
        name: None,
        route,
        due: None,
        counts_from: None,
        rank: Rank::of_record(0),
        why: Why::Turn,
        attempt: 0,
        tries: 0,
        since: NOW,
        since_worked: None,
        given_up_by: None,
        reason: String::new(),
        cause: Vec::new(),
    }
}
