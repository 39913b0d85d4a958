//! Records, waiting rows and replays → what a round is about, under the plugins that are current now.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::Letters;
use crate::batch::Wakeup;
use crate::cause::{self, Cause, GivenUp, OnDeadLetter, Route, Source, Stored, Waited};
use crate::dead_letter::Replay;
use crate::descriptor::Descriptor;
use crate::envelope::Undecodable;
use crate::record::{Message, TopicPartition};
use crate::task::{TaskId, derived_id};
use crate::trace::{Trace, TraceHint};

/// One thing a round is about.
#[derive(Debug, Clone)]
pub enum Item {
    /// A cause to be decided.
    Cause(Box<Cause>),
    /// A dead letter that is sent to its topic again, undecided.
    Republish {
        /// The message.
        message: Arc<Message>,
        /// Its replay.
        waited: Waited,
    },
    /// A waiting row that a person gave up: a dead letter.
    GivenUp(Box<GivenUp>),
    /// A record that can't be decided: a dead letter.
    Undecodable {
        /// The record.
        message: Arc<Message>,
        /// Why.
        why: Undecodable,
        /// Set if it waited in Postgres.
        waited: Option<Waited>,
    },
}

/// What a round is about, in the order in which it takes effect.
#[derive(Debug, Clone, Default)]
pub struct Items {
    /// What is decided.
    pub list: Vec<Item>,
    /// Rows that are due and blocked by an earlier one: each waits for its turn from now on.
    pub blocked: Vec<(TaskId, Uuid)>,
}

/// What items are read with.
pub struct Reading<'a> {
    /// All routes.
    pub routes: &'a [Route],
    /// The partition.
    pub partition: &'a TopicPartition,
    /// Kafka's id of its topic.
    pub topic_id: Uuid,
    /// What the current plugin of a route says of itself, by the route's number.
    pub descriptor: &'a dyn Fn(usize) -> Arc<Descriptor>,
    /// Makes a trace of what a record says.
    pub trace: &'a dyn Fn(&TraceHint) -> Trace,
    /// The same trace in a new span.
    pub next_span: &'a dyn Fn(&Trace) -> Trace,
}

/// A row that no plugin can be asked about here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// The row.
    pub wakeup: Uuid,
    /// Why, for people.
    pub reason: String,
}

/// Why a row is stranded whose cause has a later form.
const UNREADABLE: &str = "its stored cause can't be read by this version";

/// What a row becomes that a person gave up.
pub(super) fn given_up(
    stored: Stored,
    seed: Uuid,
    row: &Wakeup,
    by: &str,
    holds: bool,
    replay: Option<Replay>,
) -> Item {
    let reason = match row.reason.as_str() {
        "" => format!("{by} gave it up"),
        waited => format!("{by} gave it up; it waited because: {waited}"),
    };
    Item::GivenUp(Box::new(GivenUp {
        stored,
        seed,
        route: row.route.clone(),
        reason,
        holds,
        waited: row.waited(replay),
    }))
}

impl Item {
    /// Set if it waited in Postgres.
    pub fn waited(&self) -> Option<&Waited> {
        match self {
            Self::Cause(cause) => cause.waited.as_ref(),
            Self::Undecodable { waited, .. } => waited.as_ref(),
            Self::Republish { waited, .. } => Some(waited),
            Self::GivenUp(given_up) => Some(&given_up.waited),
        }
    }

    fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Cause(cause) => Some(cause),
            Self::Undecodable { .. } | Self::Republish { .. } | Self::GivenUp(_) => None,
        }
    }
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
                (Some(letter), Some(by)) => letter.given_up(row, by, reading),
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

impl Reading<'_> {
    fn message(&self, message: &Arc<Message>, waited: Option<Waited>) -> Item {
        let position = &message.position;
        let seed = match &waited {
            Some(waited) => cause::waiting_seed(waited.wakeup, position, self.topic_id),
            None => position.seed(self.topic_id),
        };
        let (topic, descriptor, trace) = (&*position.topic, self.descriptor, self.trace);
        match cause::of_message_in(topic, message, self.routes, seed, descriptor, trace) {
            Ok(cause) => Item::Cause(Box::new(Cause { waited, ..cause })),
            Err(why) => Item::Undecodable {
                message: message.clone(),
                why,
                waited,
            },
        }
    }

    fn row(&self, row: &Wakeup) -> Result<Item, String> {
        let waited = row.waited(None);
        match Stored::decode(&row.cause) {
            Some(Stored::Message(message)) => Ok(self.message(&Arc::new(message), Some(waited))),
            Some(Stored::Timer(timer)) => {
                let route = self.routes.iter().position(|route| route.name == row.route);
                let route =
                    route.ok_or_else(|| format!("its route `{}` is not configured", row.route))?;
                Ok(Item::Cause(Box::new(Cause {
                    task_id: row.task_id.clone(),
                    task_type: "".into(),
                    route,
                    at: timer.due,
                    seed: derived_id(row.id, "timer"),
                    trace: (self.next_span)(&timer.trace),
                    waited: Some(waited),
                    source: Source::Timer(timer),
                })))
            }
            None => Err(UNREADABLE.to_owned()),
        }
    }

    /// No plugin is asked, so it needs no route that is configured here.
    fn given_up(&self, row: &Wakeup, by: &str) -> Result<Item, String> {
        let stored = Stored::decode(&row.cause).ok_or_else(|| UNREADABLE.to_owned())?;
        let seed = match &stored {
            Stored::Message(message) => {
                cause::waiting_seed(row.id, &message.position, self.topic_id)
            }
            Stored::Timer(_) => derived_id(row.id, "timer"),
        };
        let mut routes = self.routes.iter().filter(|route| route.name == row.route);
        let holds = routes.any(|route| route.on_dead_letter == OnDeadLetter::HoldTask);
        Ok(given_up(stored, seed, row, by, holds, None))
    }
}
