//! A record, a waiting row or a replay → one thing that a round is about, under the plugins that are current now.

use std::sync::Arc;

use uuid::Uuid;

use crate::batch::Wakeup;
use crate::cause::{self, Cause, Route, Source, Stored, Waited};
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

impl Item {
    /// Set if it waited in Postgres.
    pub fn waited(&self) -> Option<&Waited> {
        match self {
            Self::Cause(cause) => cause.waited.as_ref(),
            Self::Undecodable { waited, .. } => waited.as_ref(),
            Self::Republish { waited, .. } => Some(waited),
        }
    }

    pub(super) fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Cause(cause) => Some(cause),
            Self::Undecodable { .. } | Self::Republish { .. } => None,
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
            None => Err("its stored cause can't be read by this version".to_owned()),
        }
    }
}
