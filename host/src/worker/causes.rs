//! Records and wakeups → what a batch is about, under the plugins that are current now.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use taskhost_core::batch::Wakeup;
use taskhost_core::cause::{self, Cause, Route, Source, Stored, Waited};
use taskhost_core::envelope::Undecodable;
use taskhost_core::record::Message;
use taskhost_core::task::{TaskId, derived_id};
use taskhost_core::waiting::Why;
use uuid::Uuid;

use super::plugins::Plugins;
use super::replay::Letters;
use super::tracing_context as trace;

/// One thing a batch is about.
#[derive(Debug)]
pub(super) enum Item {
    /// A cause to be decided.
    Cause(Box<Cause>),
    /// A dead letter that is sent to its topic again, undecided.
    Republish {
        /// The message.
        message: Arc<Message>,
        /// Its replay.
        waited: Waited,
    },
    /// A record that can't be: a dead letter.
    Undecodable {
        /// The record.
        message: Arc<Message>,
        /// Why.
        why: Undecodable,
        /// Set if it waited in Postgres.
        waited: Option<Waited>,
    },
}

/// What a batch is about, in order.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// In the order in which they take effect.
    pub(super) list: Vec<Item>,
}

impl Items {
    /// The causes with their numbers.
    pub(super) fn causes(&self) -> impl Iterator<Item = (usize, &Cause)> {
        self.list
            .iter()
            .enumerate()
            .filter_map(|(number, item)| match item {
                Item::Cause(cause) => Some((number, &**cause)),
                Item::Undecodable { .. } | Item::Republish { .. } => None,
            })
    }

    /// Numbers of the routes that they take.
    pub(super) fn routes(&self) -> BTreeSet<usize> {
        self.causes().map(|(_, cause)| cause.route).collect()
    }

    /// The tasks that they are for, in id order.
    pub(super) fn tasks(&self) -> Vec<TaskId> {
        let ids: BTreeSet<&TaskId> = self.causes().map(|(_, cause)| &cause.task_id).collect();
        ids.into_iter().cloned().collect()
    }

    /// Whether they are dead letters whose replays are decided: new causes, which wait behind what waits.
    pub(super) fn are_replays(&self) -> bool {
        let first = self.list.first().and_then(Item::waited);
        first.is_some_and(Waited::is_new_replay)
    }

    /// Ids of the wakeup rows that they come from.
    pub(super) fn wakeups(&self) -> Vec<Uuid> {
        self.list
            .iter()
            .filter_map(Item::waited)
            .map(|waited| waited.wakeup)
            .collect()
    }
}

impl Item {
    /// Set if it waited in Postgres.
    pub(super) fn waited(&self) -> Option<&Waited> {
        match self {
            Self::Cause(cause) => cause.waited.as_ref(),
            Self::Undecodable { waited, .. } => waited.as_ref(),
            Self::Republish { waited, .. } => Some(waited),
        }
    }
}

/// Makes the items of a run of records. The run is cut before a record whose task another route of the
/// same run has a cause for: each plugin is asked once for a batch, so their answers couldn't see each other.
pub(super) fn of_messages<'a>(
    messages: impl Iterator<Item = &'a Arc<Message>>,
    routes: &[Route],
    topic_id: Uuid,
    plugins: &Plugins,
) -> Items {
    let mut items = Items::default();
    let mut taken: HashMap<TaskId, usize> = HashMap::new();
    for message in messages {
        match of_message(message, routes, topic_id, plugins) {
            Err(why) => {
                items.list.push(Item::Undecodable {
                    message: message.clone(),
                    why,
                    waited: None,
                });
            }
            Ok(cause) => {
                if *taken.entry(cause.task_id.clone()).or_insert(cause.route) != cause.route {
                    break;
                }
                items.list.push(Item::Cause(Box::new(cause)));
            }
        }
    }
    items
}

fn of_message(
    message: &Arc<Message>,
    routes: &[Route],
    topic_id: Uuid,
    plugins: &Plugins,
) -> Result<Cause, Undecodable> {
    let descriptor = |route| plugins.decider(route).descriptor.clone();
    cause::of_message(message, routes, topic_id, descriptor, trace::of_hint)
}

/// A wakeup that no plugin can be asked about here.
#[derive(Debug)]
pub(super) struct Stranded {
    /// The row.
    pub(super) wakeup: Uuid,
    /// Why, for people.
    pub(super) reason: String,
}

/// Makes the items of wakeups that are due. One whose stored cause can't be read, or whose route is no longer
/// configured, is stranded, and with it what waits behind it.
pub(super) fn of_wakeups(
    wakeups: &[Wakeup],
    routes: &[Route],
    topic_id: Uuid,
    plugins: &Plugins,
    letters: &Letters,
) -> (Items, Vec<Stranded>) {
    let (mut items, mut stranded) = (Items::default(), Vec::new());
    let mut stuck: HashSet<&TaskId> = HashSet::new();
    let mut taken = HashMap::new();
    for wakeup in wakeups {
        if stuck.contains(&wakeup.task_id) {
            continue;
        }
        let item = match letters.of(wakeup) {
            Some(letter) => letter.item(wakeup, routes, topic_id, plugins),
            None => of_wakeup(wakeup, routes, topic_id, plugins),
        };
        let item = match item {
            Ok(item) => item,
            Err(reason) => {
                stuck.insert(&wakeup.task_id);
                stranded.push(Stranded {
                    wakeup: wakeup.id,
                    reason,
                });
                continue;
            }
        };
        // Replays are cut like records; what waited was, when it was taken.
        if let Item::Cause(cause) = &item
            && cause.is_new_replay()
            && *taken.entry(cause.task_id.clone()).or_insert(cause.route) != cause.route
        {
            break;
        }
        items.list.push(item);
    }
    (items, stranded)
}

fn of_wakeup(
    wakeup: &Wakeup,
    routes: &[Route],
    topic_id: Uuid,
    plugins: &Plugins,
) -> Result<Item, String> {
    let waited = Some(Waited {
        wakeup: wakeup.id,
        attempt: wakeup.attempt,
        tries: wakeup.tries,
        since_worked: wakeup.since_worked,
        was_held: wakeup.why == Why::Held,
        replay: None,
    });
    match Stored::decode(&wakeup.cause) {
        Some(Stored::Message(message)) => {
            let message = Arc::new(message);
            Ok(match of_message(&message, routes, topic_id, plugins) {
                Ok(cause) => Item::Cause(Box::new(Cause { waited, ..cause })),
                Err(why) => Item::Undecodable {
                    message,
                    why,
                    waited,
                },
            })
        }
        Some(Stored::Timer(timer)) => {
            let route = routes.iter().position(|route| route.name == wakeup.route);
            let route =
                route.ok_or_else(|| format!("its route `{}` is not configured", wakeup.route))?;
            Ok(Item::Cause(Box::new(Cause {
                task_id: wakeup.task_id.clone(),
                task_type: "".into(),
                route,
                at: timer.due,
                seed: derived_id(wakeup.id, "timer"),
                trace: trace::next_span(&timer.trace),
                waited,
                source: Source::Timer(timer),
            })))
        }
        None => Err("its stored cause can't be read by this version".to_owned()),
    }
}
