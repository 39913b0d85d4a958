//! The task of a cause, and a due timer.

use serde::de::DeserializeOwned;

use crate::bindings::taskhost::plugin::types;
use crate::{Rejection, Timestamp, json};

/// A task as the causes before this one left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task(types::Task);

impl Task {
    pub(crate) fn new(stored: types::Task) -> Self {
        Self(stored)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Its type, such as `web-crawl`.
    #[must_use]
    pub fn task_type(&self) -> &str {
        &self.0.type_
    }

    /// Its status, one of the description's.
    #[must_use]
    pub fn status(&self) -> &str {
        &self.0.status
    }

    /// Number of its last transition; 1 is the creation.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        Timestamp::from_millis(self.0.created_at)
    }

    /// When its last transition happened.
    #[must_use]
    pub fn updated_at(&self) -> Timestamp {
        Timestamp::from_millis(self.0.updated_at)
    }

    /// The data that the plugin stored with the last transition.
    ///
    /// # Errors
    ///
    /// Code `invalid-task-data`: the data don't fit the type, for example because an older version wrote them.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        json::read(&self.0.data).map_err(|what| Rejection::new("invalid-task-data", what))
    }

    /// The task after a transition at this time.
    pub(crate) fn moved(mut self, status: String, data: String, at: i64) -> Self {
        self.0.status = status;
        self.0.data = data;
        self.0.version += 1;
        self.0.updated_at = at;
        self
    }
}

/// A timer that the task set and that is due.
#[derive(Debug, Clone, Copy)]
pub struct Wakeup<'a>(&'a types::Wakeup);

impl<'a> Wakeup<'a> {
    pub(crate) fn new(wakeup: &'a types::Wakeup) -> Self {
        Self(wakeup)
    }

    /// The timer's name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        &self.0.name
    }

    /// When it was due.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        Timestamp::from_millis(self.0.due)
    }

    /// The data that were given when the timer was set.
    ///
    /// # Errors
    ///
    /// Code `invalid-timer-data`: the data don't fit the type, for example because an older version wrote them.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        json::read(&self.0.data).map_err(|what| Rejection::new("invalid-timer-data", what))
    }
}
