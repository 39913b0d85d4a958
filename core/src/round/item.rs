//! A record, a waiting row or a replay → one thing that a round is about, under the plugins that are current now.

use std::sync::Arc;

use uuid::Uuid;

use crate::batch::Wakeup;
use crate::cause::{self, Cause, GivenUp, OnDeadLetter, Route, Source, Stored, Waited};
use crate::dead_letter::Replay;
use crate::descriptor::Descriptor;
use crate::envelope::Undecodable;
use crate::record::{Message, TopicPartition};
use crate::task::derived_id;
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

    pub(super) fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Cause(cause) => Some(cause),
            Self::Undecodable { .. } | Self::Republish { .. } | Self::GivenUp(_) => None,
        }
    }
}

impl Reading<'_> {
    pub(super) fn message(&self, message: &Arc<Message>, waited: Option<Waited>) -> Item {
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

    pub(super) fn row(&self, row: &Wakeup) -> Result<Item, String> {
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
    pub(super) fn given_up(&self, row: &Wakeup, by: &str) -> Result<Item, String> {
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
