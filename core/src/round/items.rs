//! Records, waiting rows and replays in the order in which a round takes them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::item::{Item, Reading};
use super::letters::Letters;
use crate::batch::Wakeup;
use crate::cause::Cause;
use crate::record::Message;
use crate::task::TaskId;

/// What a round is about, in the order in which it takes effect.
#[derive(Debug, Clone, Default)]
pub struct Items {
    /// What is decided.
    pub list: Vec<Item>,
    /// Rows that are due and blocked by an earlier one: each waits for its turn from now on.
    pub blocked: Vec<(TaskId, Uuid)>,
}

/// A row that no plugin can be asked about here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// The row.
    pub wakeup: Uuid,
    /// Why, for people.
    pub reason: String,
}

impl Items {
    /// The items of a run of records.
    pub fn of_records<'a>(
        records: impl Iterator<Item = &'a Arc<Message>>,
        reading: &Reading<'_>,
    ) -> Self {
        let mut run = Run::default();
        for record in records {
            if !run.push(reading.message(record, None)) {
                break;
            }
        }
        run.items
    }

    /// The items of waiting rows, in their order, and the rows that are stranded: those whose stored cause can't be read,
    /// or whose route is not configured. What is behind a stranded row of its task is left out.
    pub fn of_rows(
        rows: &[Wakeup],
        letters: &Letters,
        reading: &Reading<'_>,
    ) -> (Self, Vec<Stranded>) {
        let (mut run, mut stranded) = (Run::default(), Vec::new());
        let mut stuck: HashSet<&TaskId> = HashSet::new();
        for row in rows {
            if stuck.contains(&row.task_id) {
                continue;
            }
            let item = match (letters.of(row), &row.given_up_by) {
                (Some(letter), Some(by)) => Ok(letter.given_up(row, by, reading)),
                (Some(letter), None) => letter.item(row, reading),
                (None, Some(by)) => reading.given_up(row, by),
                (None, None) => reading.row(row),
            };
            match item {
                Ok(item) => {
                    if !run.push(item) {
                        break;
                    }
                }
                Err(reason) => {
                    stuck.insert(&row.task_id);
                    stranded.push(Stranded {
                        wakeup: row.id,
                        reason,
                    });
                }
            }
        }
        (run.items, stranded)
    }

    /// The causes with their numbers.
    pub fn causes(&self) -> impl Iterator<Item = (usize, &Cause)> {
        let numbered = self.list.iter().enumerate();
        numbered.filter_map(|(number, item)| Some((number, item.cause()?)))
    }

    /// Numbers of the routes that they take.
    pub fn routes(&self) -> BTreeSet<usize> {
        self.causes().map(|(_, cause)| cause.route).collect()
    }

    /// The tasks that they are for, in id order.
    pub fn tasks(&self) -> Vec<TaskId> {
        let ids: BTreeSet<&TaskId> = self.causes().map(|(_, cause)| &cause.task_id).collect();
        ids.into_iter().cloned().collect()
    }

    /// Ids of the rows that they come from.
    pub fn rows(&self) -> Vec<Uuid> {
        let waited = self.list.iter().filter_map(Item::waited);
        waited.map(|waited| waited.wakeup).collect()
    }

    /// Ids of the dead letters whose replays they are.
    pub fn letters(&self) -> Vec<Uuid> {
        let waited = self.list.iter().filter_map(Item::waited);
        waited
            .filter_map(|waited| Some(waited.replay.as_ref()?.letter))
            .collect()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.blocked.is_empty()
    }

    /// The first so many.
    #[must_use]
    pub fn first(mut self, count: usize) -> Self {
        self.list.truncate(count);
        self
    }

    /// The causes of a route behind the first item, at most so many: of each other task the first one, because what comes
    /// after it depends on it.
    #[must_use]
    pub fn others(self, route: usize, most: usize) -> Self {
        let mut seen = HashSet::new();
        let of_route = self.list.into_iter().filter(|item| {
            item.cause()
                .is_some_and(|cause| seen.insert(cause.task_id.clone()) && cause.route == route)
        });
        Self {
            list: of_route.skip(1).take(most).collect(),
            blocked: Vec::new(),
        }
    }
}

/// Items so far. A run is cut before a cause whose task another route of the run has a cause for: each route's plugin is
/// asked separately, so their answers couldn't see each other. A cause that moves from one task to another is alone,
/// because it is part of two queues.
#[derive(Default)]
struct Run {
    items: Items,
    taken: HashMap<TaskId, usize>,
}

impl Run {
    /// Adds an item; false if the run ends before it.
    fn push(&mut self, item: Item) -> bool {
        let moves = |cause: &Cause| {
            let waited = cause.waited.as_ref();
            waited.is_some_and(|waited| waited.task_id != cause.task_id)
        };
        let last = self.items.list.last().and_then(Item::cause);
        if last.is_some_and(moves) {
            return false;
        }
        if let Some(cause) = item.cause() {
            let is_alone = moves(cause) && !self.items.list.is_empty();
            let route = self.taken.entry(cause.task_id.clone());
            if is_alone || *route.or_insert(cause.route) != cause.route {
                return false;
            }
        }
        self.items.list.push(item);
        true
    }
}
