//! The rights that a host needs, and how one that is missing is named.

use std::fmt;

/// What may be done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Fetch from a topic; join a group and commit its offsets.
    Read,
    /// Produce to a topic; use a transactional id.
    Write,
}

impl Operation {
    /// Its name, as `kafka-acls.sh --operation` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
        }
    }
}

/// What a right is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// A consumer group.
    Group(String),
    /// A transactional id; the right should be one for all ids with the host's prefix.
    TransactionalId(String),
}

impl Resource {
    /// Its kind, as `kafka-acls.sh` names it: `topic`, `group`, `transactional-id`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Topic(_) => "topic",
            Self::Group(_) => "group",
            Self::TransactionalId(_) => "transactional-id",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        let (Self::Topic(name) | Self::Group(name) | Self::TransactionalId(name)) = self;
        name
    }
}

/// A right that is missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MissingRight {
    /// To do what.
    pub operation: Operation,
    /// With what.
    pub resource: Resource,
}

impl MissingRight {
    /// To read a topic.
    pub fn read(topic: &str) -> Self {
        Self {
            operation: Operation::Read,
            resource: Resource::Topic(topic.to_owned()),
        }
    }

    /// To send to a topic.
    pub fn write(topic: &str) -> Self {
        Self {
            operation: Operation::Write,
            resource: Resource::Topic(topic.to_owned()),
        }
    }

    /// To be a member of a group.
    pub fn join(group: &str) -> Self {
        Self {
            operation: Operation::Read,
            resource: Resource::Group(group.to_owned()),
        }
    }

    /// To use a transactional id.
    pub fn transact(id: &str) -> Self {
        Self {
            operation: Operation::Write,
            resource: Resource::TransactionalId(id.to_owned()),
        }
    }
}

impl fmt::Display for MissingRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = (self.resource.kind(), self.resource.name());
        write!(f, "no right to {} {kind} {name}", self.operation.name())
    }
}

/// What to do about a missing right, after its name.
pub const GRANT_IT: &str = "grant it to this host's user (docs/kafka-security.md has the commands); the host goes on by itself then";
