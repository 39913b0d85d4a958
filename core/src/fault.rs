//! A plugin's own failure, each kind with its code.

/// How a plugin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It panicked or executed an instruction that traps.
    Trap,
    /// It did not answer in time.
    Deadline,
    /// It asked for more memory than it may have.
    Memory,
    /// It used up its stack.
    Stack,
    /// It answered more than it may.
    AnswerTooLarge,
    /// Its answer has not the form of one: wrong count, no JSON, a text that can't be stored.
    MalformedAnswer,
    /// A status that its descriptor doesn't have.
    UndeclaredStatus,
    /// A change of status that its descriptor doesn't allow.
    UndeclaredTransition,
    /// A topic that its descriptor doesn't produce, or that no configuration maps.
    UndeclaredTopic,
    /// An event kind that its descriptor doesn't emit.
    UndeclaredEvent,
    /// Postgres refused what it answered.
    RefusedByDatabase,
}

impl Kind {
    /// All kinds, for metrics that start at 0 and for the docs.
    pub const ALL: [Self; 11] = [
        Self::Trap,
        Self::Deadline,
        Self::Memory,
        Self::Stack,
        Self::AnswerTooLarge,
        Self::MalformedAnswer,
        Self::UndeclaredStatus,
        Self::UndeclaredTransition,
        Self::UndeclaredTopic,
        Self::UndeclaredEvent,
        Self::RefusedByDatabase,
    ];

    /// The code of the dead letter and of the metric's label.
    pub fn code(self) -> &'static str {
        match self {
            Self::Trap => "plugin-trap",
            Self::Deadline => "plugin-deadline",
            Self::Memory => "plugin-memory",
            Self::Stack => "plugin-stack",
            Self::AnswerTooLarge => "plugin-answer-too-large",
            Self::MalformedAnswer => "plugin-malformed-answer",
            Self::UndeclaredStatus => "plugin-undeclared-status",
            Self::UndeclaredTransition => "plugin-undeclared-transition",
            Self::UndeclaredTopic => "plugin-undeclared-topic",
            Self::UndeclaredEvent => "plugin-undeclared-event",
            Self::RefusedByDatabase => "refused-by-database",
        }
    }

    /// Whether the machine may be at fault rather than the rule, so that trying again makes sense.
    pub fn is_retriable(self) -> bool {
        matches!(self, Self::Deadline)
    }
}

/// A plugin's failure with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// How it failed.
    pub kind: Kind,
    /// A sentence for people.
    pub reason: String,
    /// The guest's backtrace, if it has one.
    pub backtrace: Option<String>,
}

impl Fault {
    /// A fault without a backtrace.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            backtrace: None,
        }
    }
}
