//! What a plugin says of itself: the statuses of its tasks, the changes between them, its topics.
//!
//! ```text
//!   (none) ──► initial ──► … ──► terminal
//!                 └─ only along declared transitions ─┘
//! ```

use std::collections::HashSet;

use crate::limits::NAME_CHARS_MAX;

/// A plugin's description, checked by [`Descriptor::validate`] before it is ever used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The plugin's name.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// Every status of its tasks.
    pub statuses: Vec<Status>,
    /// Allowed changes of status, from and to. A pair of equals allows a change that keeps the status.
    pub transitions: HashSet<(String, String)>,
    /// Logical topics it can decide messages of.
    pub consumes: Vec<String>,
    /// Logical topics it may send to.
    pub produces: Vec<String>,
    /// Event kinds it may emit.
    pub events: Vec<String>,
    /// Where a message's task id is; the first that has one wins.
    pub task_id: Vec<TaskIdSource>,
}

/// One status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Whether a task may be created in it.
    pub initial: bool,
    /// Whether a task ends in it.
    pub terminal: bool,
}

/// A place where a message's task id can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskIdSource {
    /// A string in the body, named by a JSON pointer (RFC 6901).
    Body(String),
    /// A string field of the envelope's headers.
    Envelope(String),
    /// A record header.
    Header(String),
    /// The record's key.
    Key,
    /// A UUIDv5 of the record's position.
    Position,
}

impl Descriptor {
    /// A status by name.
    pub fn status(&self, name: &str) -> Option<&Status> {
        self.statuses.iter().find(|status| status.name == name)
    }

    /// Whether a task may go from one status to another.
    pub fn allows(&self, from: &str, to: &str) -> bool {
        // A set of owned pairs can't be asked with borrowed ones; plugins have a handful of rules.
        self.transitions.iter().any(|(a, b)| a == from && b == to)
    }

    /// Checks that the description makes sense in itself.
    ///
    /// # Errors
    /// Every problem found, each a sentence.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let name_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !is_name(&self.name) || !self.name.chars().all(name_ok) {
            problems.push(format!(
                "the name `{}` is not 1 to {NAME_CHARS_MAX} of a-z, 0-9 and -",
                self.name
            ));
        }
        if !is_name(&self.version) {
            problems.push("the version is empty or too long".to_owned());
        }
        self.validate_statuses(&mut problems);
        for (what, names) in [
            ("consumed topic", &self.consumes),
            ("produced topic", &self.produces),
            ("event kind", &self.events),
        ] {
            for name in names
                .iter()
                .filter(|name| name.is_empty() || name.contains('\0') || name.len() > 249)
            {
                problems.push(format!("the {what} `{name}` is empty or too long"));
            }
        }
        if self.consumes.is_empty() {
            problems.push("it consumes no topic".to_owned());
        }
        if self.events.is_empty() {
            problems.push("it emits no event kind, and every transition needs an event".to_owned());
        }
        if self.task_id.is_empty() {
            problems.push("it names no place for the task id".to_owned());
        }
        for source in &self.task_id {
            if let TaskIdSource::Body(pointer) = source
                && !pointer.starts_with('/')
            {
                problems.push(format!(
                    "the task id's JSON pointer `{pointer}` does not start with /"
                ));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn validate_statuses(&self, problems: &mut Vec<String>) {
        let mut seen = HashSet::new();
        for status in &self.statuses {
            if !is_name(&status.name) {
                problems.push(format!("the status `{}` is empty or too long", status.name));
            }
            if !seen.insert(&status.name) {
                problems.push(format!("the status `{}` stands twice", status.name));
            }
        }
        if !self.statuses.iter().any(|status| status.initial) {
            problems.push("no status is initial, so no task could ever be created".to_owned());
        }
        for (from, to) in &self.transitions {
            for name in [from, to]
                .into_iter()
                .filter(|name| self.status(name).is_none())
            {
                problems.push(format!(
                    "the transition {from} -> {to} names the unknown status `{name}`"
                ));
            }
            if from != to && self.status(from).is_some_and(|status| status.terminal) {
                problems.push(format!(
                    "the terminal status `{from}` has a transition to `{to}`"
                ));
            }
        }
        problems.sort();
    }
}

/// Whether a text can be a status, a version or a timer's name.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= NAME_CHARS_MAX && !text.contains('\0')
}
