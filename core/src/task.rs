//! The aggregate: one task, its status, its version, and its history.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::TASK_ID_CHARS_MAX;
use crate::record::Position;

/// A task's id: opaque text of 1 to 200 characters without NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(#[serde(with = "crate::record::arc_text")] Arc<str>);

impl TaskId {
    /// Takes a text as an id.
    ///
    /// # Errors
    /// If it is empty, too long, or holds a NUL, which Postgres can't store.
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidTaskId> {
        let text = text.as_ref();
        match text.chars().count() {
            0 => Err(InvalidTaskId::Empty),
            count if count > TASK_ID_CHARS_MAX => Err(InvalidTaskId::TooLong { count }),
            _ if text.contains('\0') => Err(InvalidTaskId::Nul),
            _ => Ok(Self(text.into())),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no task id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTaskId {
    /// No characters.
    #[error("task id is empty")]
    Empty,
    /// More than 200 characters.
    #[error("task id has {count} characters, at most {TASK_ID_CHARS_MAX} are allowed")]
    TooLong {
        /// Characters found.
        count: usize,
    },
    /// A NUL character.
    #[error("task id contains a NUL character")]
    Nul,
}

/// A task's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its type, such as `web-crawl`; given at creation, never changed.
    pub kind: Arc<str>,
    /// Its status, one of the plugin's.
    pub status: Arc<str>,
    /// What the plugin stored: JSON text.
    pub data: Arc<str>,
    /// Number of its last transition; 1 is the creation.
    pub version: i64,
    /// Time of the cause that created it, in milliseconds since 1970.
    pub created_at: i64,
    /// Time of the cause of its last transition, in milliseconds since 1970.
    pub updated_at: i64,
}

/// One entry of a task's append-only history.
#[derive(Debug, Clone, PartialEq, Eq)]
// Many fields: each is a column of its row.
pub struct TaskEvent {
    /// Whose history it is.
    pub task_id: TaskId,
    /// The version that the transition gave the task.
    pub version: i64,
    /// Number of the event within its transition, from 0.
    pub number: i32,
    /// What happened, such as `task.created`.
    pub kind: String,
    /// The status before; none for a creation.
    pub from: Option<Arc<str>>,
    /// The status after.
    pub to: Arc<str>,
    /// What the plugin says about it: JSON text.
    pub data: String,
    /// Time of the cause, in milliseconds since 1970.
    pub at: i64,
    /// The cause's coordinates: the message's, or those of the message that set the timer.
    pub cause: Position,
    /// The cause as stored ([`crate::cause::Cause::encode`]), so that it can be decided again.
    pub cause_bytes: Arc<[u8]>,
    /// Which plugin decided.
    pub plugin: Arc<PluginVersion>,
    /// What it takes to decide the cause again. Not known of events of before migration 13.
    pub basis: Option<Basis>,
    /// The trace the cause belongs to: 32 hexadecimal digits.
    pub trace_id: String,
    /// A trace id of the cause that is no W3C trace id, kept as it came.
    pub foreign_trace_id: Option<String>,
}

impl TaskEvent {
    /// `<task id>:<version>:<n>`: the same however often the event is decided.
    pub fn id(&self) -> String {
        format!("{}:{}:{}", self.task_id, self.version, self.number)
    }
}

/// What a cause was decided with, besides its task: with it, the same cause is decided the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// What decided.
    pub decider: Arc<RecordedDecider>,
    /// How often the cause had been deferred, as the plugin was told.
    pub attempt: i32,
    /// What the plugin's unique values grow from.
    pub seed: Uuid,
}

/// A decider as the history records it: all that an answer depends on besides task, cause, attempt and seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedDecider {
    /// The route's name.
    pub route: Arc<str>,
    /// Number of the activation; 0 if the plugin is not one that was activated.
    pub activation: i64,
    /// Which plugin.
    pub plugin: Arc<PluginVersion>,
    /// The configuration that it was given: JSON text.
    pub config: Arc<str>,
    /// The interface by which it was asked, such as `taskhost:plugin@0.1.0`.
    pub interface: Arc<str>,
    /// Real names of the logical topics.
    pub topics: Arc<BTreeMap<String, String>>,
}

/// One version of a plugin: what it calls itself, and the digest of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PluginVersion {
    /// Its name, from its descriptor.
    pub name: String,
    /// Its semantic version, from its descriptor.
    pub version: String,
    /// SHA-256 of the component's bytes, 64 hexadecimal digits.
    pub digest: String,
}

/// What makes a wakeup's id: `UUIDv5(owner, what)`, so that deciding again makes the same row.
pub fn derived_id(namespace: Uuid, what: &str) -> Uuid {
    Uuid::new_v5(&namespace, what.as_bytes())
}
