//! What a plugin is asked about: a message, or a timer that is due; and which route and task it is for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dead_letter::Replay;
use crate::descriptor::{Descriptor, TaskIdSource};
use crate::envelope::{self, Envelope, Undecodable, utf8_header};
use crate::record::{Message, Position};
use crate::task::{InvalidTaskId, TaskId, derived_id};
use crate::trace::{Trace, TraceHint};
use crate::waiting::{Rank, Why};

/// A topic, and optionally a task type, whose messages one plugin decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its stable name: `<logical topic>` or `<logical topic>/<task type>`.
    pub name: String,
    /// The topic's name as plugins know it.
    pub logical_topic: String,
    /// The topic's name on the broker.
    pub topic: String,
    /// Only messages of this type, if given.
    pub task_type: Option<String>,
    /// The type of messages that name none, if they may.
    pub default_task_type: Option<String>,
    /// What becomes of later messages of a task when one of its messages becomes a dead letter.
    pub on_dead_letter: OnDeadLetter,
}

/// What becomes of later messages of a task when one of its messages becomes a dead letter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDeadLetter {
    /// They are decided.
    #[default]
    GoOn,
    /// They wait until the dead letter is replayed or discarded.
    HoldTask,
}

/// A task's cause, ready to be decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// What happened.
    pub source: Source,
    /// The task it is for.
    pub task_id: TaskId,
    /// The type that a task created by it gets.
    pub task_type: Arc<str>,
    /// Number of its route in the host's table.
    pub route: usize,
    /// What a plugin takes for now: the record's timestamp, or the time a timer was due.
    pub at: i64,
    /// What must be unique and repeatable grows from it.
    pub seed: Uuid,
    /// The trace it belongs to, and the span in which it is decided.
    pub trace: Trace,
    /// Set if it waited in Postgres.
    pub waited: Option<Waited>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A record that decoded.
    Message {
        /// The record as it came.
        message: Arc<Message>,
        /// Its decoded form.
        envelope: Box<Envelope>,
    },
    /// A timer of the task.
    Timer(Timer),
}

/// A timer that was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Its name within the task.
    pub name: String,
    /// When it is due, in milliseconds since 1970.
    pub due: i64,
    /// What it brings back: JSON text.
    pub data: String,
    /// The record whose decision set it.
    pub set_by: Position,
    /// The trace that it goes on with.
    pub trace: Trace,
}

/// What the wakeup row says of a cause that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// The row.
    pub wakeup: Uuid,
    /// The task that the row is for. The cause is for another one if its dead letter was edited, or if its plugin now finds
    /// task ids elsewhere.
    pub task_id: TaskId,
    /// Its place among what waits of its task.
    pub rank: Rank,
    /// What it waited for.
    pub why: Why,
    /// When it was to be tried, in milliseconds since 1970; none while it waited for its turn.
    pub due: Option<i64>,
    /// As in [`crate::batch::Wakeup::counts_from`].
    pub counts_from: Option<i64>,
    /// How often the cause was deferred.
    pub attempt: i32,
    /// How often in a row it exceeded its deadline.
    pub tries: i32,
    /// How long the partition had worked when it began to wait, in milliseconds; none if that is not known.
    pub since_worked: Option<i64>,
    /// Set if it is a dead letter that is decided again.
    pub replay: Option<Replay>,
}

impl Waited {
    /// Whether it is a dead letter's replay that has not waited yet: until then the record counts as a dead letter.
    pub fn is_new_replay(&self) -> bool {
        self.replay
            .as_ref()
            .is_some_and(|replay| !replay.is_waiting)
    }
}

/// A waiting row that a person gave up.
#[derive(Debug, Clone)]
pub struct GivenUp {
    /// The record or timer; of a dead letter that is decided again, as it was edited last.
    pub stored: Stored,
    /// What the ids that come of it grow from.
    pub seed: Uuid,
    /// The route's name.
    pub route: String,
    /// Who gave it up, and why it waited.
    pub reason: String,
    /// Whether later messages of its task wait until its dead letter is replayed or discarded.
    pub holds: bool,
    /// Its row.
    pub waited: Waited,
}

/// A cause as stored: in a wakeup, and beside each task event so that it can be decided again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Stored {
    /// A record as it came.
    Message(Message),
    /// A timer.
    Timer(Timer),
}

/// [`Stored`] that is only written: the same variants in the same order.
#[derive(Serialize)]
enum Borrowed<'a> {
    Message(&'a Message),
    Timer(&'a Timer),
}

/// The format that [`Stored::encode`] writes.
const FORMAT: u8 = 1;

/// Bytes that most causes fit in.
const USUAL_BYTES: usize = 1024;

fn encode(stored: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.push(FORMAT);
    postcard::to_extend(stored, bytes).unwrap_or_default()
}

impl Stored {
    /// One byte with the format's number, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the stored form back; none if it is damaged or of another format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).ok(),
            _ => None,
        }
    }
}

impl Cause {
    /// The record it comes from: itself, or the one whose decision set the timer.
    pub fn position(&self) -> &Position {
        match &self.source {
            Source::Message { message, .. } => &message.position,
            Source::Timer(timer) => &timer.set_by,
        }
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        encode(&match &self.source {
            Source::Message { message, .. } => Borrowed::Message(message),
            Source::Timer(timer) => Borrowed::Timer(timer),
        })
    }

    /// Its place among the causes of its task that its partition has.
    pub fn rank(&self) -> Rank {
        match &self.waited {
            Some(waited) => waited.rank,
            None => Rank::of_record(self.position().offset),
        }
    }

    /// How often it was deferred.
    pub fn attempt(&self) -> i32 {
        self.waited.as_ref().map_or(0, |waited| waited.attempt)
    }

    /// How often in a row it exceeded its deadline.
    pub fn tries(&self) -> i32 {
        self.waited.as_ref().map_or(0, |waited| waited.tries)
    }

    /// How often it was decided before, as far as that counts against it.
    pub fn decided_before(&self) -> i32 {
        self.attempt().saturating_add(self.tries())
    }

    /// Whether it is a dead letter's replay that has not waited yet.
    pub fn is_new_replay(&self) -> bool {
        self.waited.as_ref().is_some_and(Waited::is_new_replay)
    }

    /// Whether it is a record of the log, and so has an outcome to be counted.
    pub fn is_message(&self) -> bool {
        matches!(self.source, Source::Message { .. })
    }
}

/// The name by which the row of a record that waits grows from the record's seed.
pub(crate) const WAITING_ROW: &str = "deferred";

/// What the ids of a waiting record grow from: its own seed, which the row's id tells. A row from before the topic was made
/// again has the place of another record by now, so what comes of it grows from the row.
pub(crate) fn waiting_seed(row: Uuid, position: &Position, topic_id: Uuid) -> Uuid {
    let own = position.seed(topic_id);
    match derived_id(own, WAITING_ROW) == row {
        true => own,
        false => derived_id(row, "record"),
    }
}

/// The number of the route that a message takes: the one of its type, else the one for all types.
///
/// # Errors
/// If its type has no route on this topic.
pub fn route_of(routes: &[Route], topic: &str, envelope: &Envelope) -> Result<usize, Undecodable> {
    let named = envelope
        .meta
        .task_type
        .as_deref()
        .or(envelope.meta.request_type.as_deref());
    let here = || {
        routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.topic == topic)
    };
    let typed = here().find(|(_, route)| match (&route.task_type, named) {
        (Some(wanted), Some(named)) => wanted == named,
        (Some(wanted), None) => Some(wanted) == route.default_task_type.as_ref(),
        (None, _) => false,
    });
    let found = typed.or_else(|| here().find(|(_, route)| route.task_type.is_none()));
    found.map(|(number, _)| number).ok_or_else(|| {
        let reason = match named {
            Some(_) => "no route of this topic takes the message's task type",
            None => "the message names no task type and no route of this topic has a default",
        };
        Undecodable::new("unknown-task-type", reason)
    })
}

/// Makes a cause of a record: decodes it, finds its route and its task.
///
/// `descriptor` answers for a route's number what its plugin says of itself, `trace` makes a trace of what
/// the record says.
///
/// # Errors
/// Why it can't be decided: a dead letter.
pub fn of_message(
    message: &Arc<Message>,
    routes: &[Route],
    topic_id: Uuid,
    descriptor: impl Fn(usize) -> Arc<Descriptor>,
    trace: impl Fn(&TraceHint) -> Trace,
) -> Result<Cause, Undecodable> {
    let seed = message.position.seed(topic_id);
    of_message_in(
        &message.position.topic,
        message,
        routes,
        seed,
        descriptor,
        trace,
    )
}

/// [`of_message`] for a message that may be of another topic than the one whose routes decide it.
///
/// # Errors
/// Why it can't be decided.
pub fn of_message_in(
    topic: &str,
    message: &Arc<Message>,
    routes: &[Route],
    seed: Uuid,
    descriptor: impl Fn(usize) -> Arc<Descriptor>,
    trace: impl Fn(&TraceHint) -> Trace,
) -> Result<Cause, Undecodable> {
    let envelope = envelope::decode(message)?;
    let route = route_of(routes, topic, &envelope)?;
    let task_id = task_id(message, &envelope, &descriptor(route).task_id, seed)?;
    let meta = &envelope.meta;
    let task_type = meta.task_type.as_deref().or(meta.request_type.as_deref());
    let task_type = task_type
        .or(routes[route].default_task_type.as_deref())
        .ok_or_else(|| {
            let reason = "the message names no task type and its route has no default";
            Undecodable::new("task-type-missing", reason)
        })?;
    if !crate::descriptor::is_name(task_type) {
        return Err(Undecodable::new(
            "invalid-task-type",
            "the task type is empty or longer than 64 characters",
        ));
    }
    Ok(Cause {
        task_id,
        task_type: task_type.into(),
        route,
        at: message.timestamp,
        seed,
        trace: trace(&envelope.trace),
        waited: None,
        source: Source::Message {
            message: message.clone(),
            envelope: Box::new(envelope),
        },
    })
}

fn task_id(
    message: &Message,
    envelope: &Envelope,
    sources: &[TaskIdSource],
    seed: Uuid,
) -> Result<TaskId, Undecodable> {
    let invalid = |error: InvalidTaskId| Undecodable::new("invalid-task-id", error.to_string());
    let no_text = || Undecodable::new("invalid-task-id", "the task id is not a text");
    for source in sources {
        let found = match source {
            TaskIdSource::Body(pointer) => match envelope.parsed.pointer(pointer) {
                None | Some(serde_json::Value::Null) => None,
                Some(value) => Some(value.as_str().ok_or_else(no_text)?.to_owned()),
            },
            TaskIdSource::Envelope(name) => envelope.headers.get(name).cloned(),
            TaskIdSource::Header(name) => match message.header(name) {
                None => None,
                Some(_) => Some(utf8_header(message, name).ok_or_else(no_text)?.to_owned()),
            },
            TaskIdSource::Key => match message.key.as_deref() {
                None | Some([]) => None,
                Some(key) => Some(std::str::from_utf8(key).map_err(|_| no_text())?.to_owned()),
            },
            TaskIdSource::Position => Some(seed.to_string()),
        };
        if let Some(text) = found {
            return TaskId::new(text).map_err(invalid);
        }
    }
    Err(Undecodable::new(
        "task-id-missing",
        "the message names no task, in none of the places its plugin looks",
    ))
}
