//! A dead letter that is decided again: what is known of it then, and how that can end.
//!
//! A replay is a new cause at its record's place, so it waits behind what waits of its task before that place (law 4). Its
//! time and its ids stay those of the record, so that what it creates is what the record would have created.

use std::sync::Arc;

use uuid::Uuid;

use crate::cause::{Cause, Source, Timer, Waited};
use crate::dead_letter::{DeadLetter, TIMER_NAME};
use crate::record::{Message, TopicPartition};
use crate::task::{TaskId, derived_id};
use crate::trace::{Trace, TraceHint};

/// How a replay went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The dead letter.
    pub letter: Uuid,
    /// What became of it.
    pub end: End,
}

/// What became of a dead letter that was decided again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Its task was created or changed.
    Applied,
    /// It changed nothing, on purpose.
    Ignored,
    /// It waits for its task.
    Waiting {
        /// The wakeup that stands for it now.
        wakeup: Uuid,
    },
    /// It failed again.
    Failed {
        /// As it failed now.
        letter: Box<DeadLetter>,
        /// Whether that was once too often.
        parked: bool,
    },
    /// It was sent to its topic again.
    Republished,
}

impl End {
    /// The state that the dead letter is in then.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Waiting { .. } => "waiting",
            Self::Failed { parked: false, .. } => "open",
            Self::Failed { parked: true, .. } => "parked",
            Self::Republished => "republished",
        }
    }
}

/// What the ids of a replayed cause grow from: those of the record, if it is one of the partition's log, which its dead
/// letter's id tells. One that comes from elsewhere, or from before the topic was made again, could have the place of
/// another record there.
pub fn seed(letter: Uuid, message: &Message, owner: &TopicPartition, topic_id: Uuid) -> Uuid {
    let position = &message.position;
    let own = position.seed(topic_id);
    let is_here = (&position.topic, position.partition) == (&owner.topic, owner.partition);
    match is_here && derived_id(own, "dead-letter") == letter {
        true => own,
        false => derived_id(letter, "record"),
    }
}

/// A timer that was given up, from its form as a record; none if that is damaged.
pub fn timer_cause(
    message: &Message,
    task_id: TaskId,
    route: usize,
    waited: Waited,
    letter: Uuid,
    trace: impl Fn(&TraceHint) -> Trace,
) -> Option<Cause> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let header = |name: &str| message.header(name).and_then(text);
    let trace = trace(&TraceHint {
        traceparent: header("traceparent"),
        ..TraceHint::default()
    });
    let timer = Timer {
        name: header(TIMER_NAME)?,
        due: message.timestamp,
        data: text(message.value.as_deref()?)?,
        set_by: message.position.clone(),
        trace: trace.clone(),
    };
    Some(Cause {
        task_id,
        task_type: Arc::from(""),
        route,
        at: timer.due,
        seed: derived_id(letter, "timer"),
        trace,
        waited: Some(waited),
        source: Source::Timer(timer),
    })
}
