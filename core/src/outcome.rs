//! What became of a consumed record: exactly one of these, counted once.

use std::ops::AddAssign;

/// The one outcome of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its task was created or changed.
    Applied,
    /// Nothing changed, on purpose.
    Ignored,
    /// It waits in Postgres.
    Deferred,
    /// It was given up and kept whole.
    DeadLetter,
}

impl Outcome {
    /// All outcomes, for metrics that start at 0.
    pub const ALL: [Self; 4] = [
        Self::Applied,
        Self::Ignored,
        Self::Deferred,
        Self::DeadLetter,
    ];

    /// The metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Deferred => "deferred",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// How many records of a batch ended in which way. `deferred` counts records that began to wait;
/// one that had waited leaves through `left_waiting` and is counted where it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records whose task was created or changed.
    pub applied: u64,
    /// Records that changed nothing.
    pub ignored: u64,
    /// Records that began to wait.
    pub deferred: u64,
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Of the above, records that had been waiting.
    pub left_waiting: u64,
    /// Of the above, records that had been dead letters: their replay was decided.
    pub left_dead_letters: u64,
    /// Timers that fired: causes, but no records.
    pub timers: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.applied += more.applied;
        self.ignored += more.ignored;
        self.deferred += more.deferred;
        self.dead_letters += more.dead_letters;
        self.left_waiting += more.left_waiting;
        self.left_dead_letters += more.left_dead_letters;
        self.timers += more.timers;
    }
}

impl Counts {
    /// Records that this batch consumed from the log: law 1 says that each has exactly one outcome.
    pub fn consumed(&self) -> u64 {
        self.applied + self.ignored + self.deferred + self.dead_letters
            - self.left_waiting
            - self.left_dead_letters
    }

    /// Counts one outcome.
    pub fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Applied => self.applied += 1,
            Outcome::Ignored => self.ignored += 1,
            Outcome::Deferred => self.deferred += 1,
            Outcome::DeadLetter => self.dead_letters += 1,
        }
    }
}
