//! A plugin's description of itself.

use crate::bindings::taskhost::plugin::types;

/// A plugin's statuses and the transitions between them, its topics, its events, and the places of a message's task id. The
/// host refuses an answer that the description doesn't cover.
///
/// ```
/// use taskhost_sdk::{Description, TaskId};
///
/// Description::new("parcels", "1.0.0")
///     .initial("registered")
///     .status("in-transit")
///     .terminal("delivered")
///     .transition("registered", "in-transit")
///     .transition("in-transit", "in-transit")
///     .transition("in-transit", "delivered")
///     .consumes("parcel-scans")
///     .produces("notifications")
///     .event("parcel.scanned")
///     .task_id(TaskId::Body("/parcelId"))
///     .task_id(TaskId::Key);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Description(types::Descriptor);

/// A place where a message's task id can be. The first place of a description that has an id wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskId<'a> {
    /// A string in the body, by its JSON pointer (RFC 6901): `/taskId`.
    Body(&'a str),
    /// A string field of the envelope's `headers`.
    Envelope(&'a str),
    /// A record header.
    Header(&'a str),
    /// The record's key.
    Key,
    /// A UUID derived from the record's topic, partition and offset: for messages that create tasks.
    Position,
}

impl Description {
    /// A plugin without statuses yet. The name has 1 to 64 of `a-z`, `0-9` and `-`; the version is semantic.
    pub fn new(name: &str, version: &str) -> Self {
        Self(types::Descriptor {
            name: name.to_owned(),
            version: version.to_owned(),
            statuses: Vec::new(),
            transitions: Vec::new(),
            consumes: Vec::new(),
            produces: Vec::new(),
            events: Vec::new(),
            task_id: Vec::new(),
        })
    }

    /// Adds a status in which a task can be created.
    pub fn initial(self, name: &str) -> Self {
        self.add_status(name, true, false)
    }

    /// Adds a status that is neither initial nor terminal.
    pub fn status(self, name: &str) -> Self {
        self.add_status(name, false, false)
    }

    /// Adds a status in which a task ends.
    pub fn terminal(self, name: &str) -> Self {
        self.add_status(name, false, true)
    }

    /// Adds a status that is both initial and terminal: the task is complete at once.
    pub fn initial_and_terminal(self, name: &str) -> Self {
        self.add_status(name, true, true)
    }

    /// Allows a change of status. A transition from a status to itself allows a change that keeps the status.
    pub fn transition(mut self, from: &str, to: &str) -> Self {
        self.0.transitions.push(types::TransitionRule {
            from: from.to_owned(),
            to: to.to_owned(),
        });
        self
    }

    /// A logical topic whose messages the plugin decides.
    pub fn consumes(mut self, topic: &str) -> Self {
        self.0.consumes.push(topic.to_owned());
        self
    }

    /// A logical topic that the plugin sends messages to.
    pub fn produces(mut self, topic: &str) -> Self {
        self.0.produces.push(topic.to_owned());
        self
    }

    /// A kind of task event that the plugin emits.
    pub fn event(mut self, kind: &str) -> Self {
        self.0.events.push(kind.to_owned());
        self
    }

    /// Adds the next place of a message's task id.
    pub fn task_id(mut self, source: TaskId<'_>) -> Self {
        self.0.task_id.push(match source {
            TaskId::Body(pointer) => types::TaskIdSource::Body(pointer.to_owned()),
            TaskId::Envelope(name) => types::TaskIdSource::Envelope(name.to_owned()),
            TaskId::Header(name) => types::TaskIdSource::Header(name.to_owned()),
            TaskId::Key => types::TaskIdSource::Key,
            TaskId::Position => types::TaskIdSource::Position,
        });
        self
    }

    fn add_status(mut self, name: &str, initial: bool, terminal: bool) -> Self {
        self.0.statuses.push(types::Status {
            name: name.to_owned(),
            initial,
            terminal,
        });
        self
    }

    /// The description in the host's types.
    #[must_use]
    pub fn descriptor(&self) -> &types::Descriptor {
        &self.0
    }
}

impl From<Description> for types::Descriptor {
    fn from(description: Description) -> Self {
        description.0
    }
}
