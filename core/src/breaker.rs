//! A circuit breaker as a state machine: what happened and when goes in, what may be tried comes out.
//!
//! ```text
//!            failures in a row                 the backoff ends
//!   closed ────────────────────► open until ─────────────────────► half-open: one probe is in hand
//!     ▲                             ▲                                  │                │
//!     │                             └───────────── it failed ──────────┘                │
//!     └────────────────────────────────────────── it succeeded ─────────────────────────┘
//! ```
//!
//! Whoever wants to try something asks [`Breaker::enter`] and reports how it ended with the [`Era`] that it was given. An
//! era ends with each change of state, so a try that began before the breaker opened and ends long after has no say any
//! more: a connection that was cut an hour ago closes nothing, and opens nothing anew. Only a probe closes it, for all
//! at once.
//!
//! `now` is the time since any moment that stays the same; it never goes back.

use std::time::Duration;

use crate::retry;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// So many failures in a row open it. 0 counts as 1.
    pub failures_max: u32,
    /// The base of the backoff: full jitter, doubled with each probe that fails.
    pub backoff: Duration,
    /// The longest backoff.
    pub backoff_max: Duration,
    /// If it opens again before it was closed for so long, the backoff goes on from where it was: a probe that succeeds
    /// where work fails is not believed each time.
    pub calm: Duration,
    /// So many probes in a row must succeed to close it. 0 counts as 1.
    pub probes: u32,
}

/// Between two changes of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Era(u64);

/// Whether a probe may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now; its outcome is to be reported with this era.
    Now(Era),
    /// Not before this time.
    At(Duration),
    /// Another one is in hand.
    Taken,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that anybody else would see.
    Nothing,
    /// Nobody may try any more.
    Opened,
    /// The probe failed: nobody may try for another while.
    StillOpen,
    /// Everybody may try again. It was not closed for so long.
    Closed {
        /// From the first opening to now.
        after: Duration,
    },
}

/// How much of a dependency a failure speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it: nobody's next try would end otherwise.
    Whole,
    /// One connection, one broker or one batch, or all of it: a probe decides.
    Unclear,
    /// This step alone, such as a lock that somebody holds.
    Own,
}

/// How thoroughly a probe looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// While all is well: a question that costs nearly nothing.
    Light,
    /// After a failure that may be everybody's.
    Suspicion,
    /// While it is open: does what a batch would do, so that it doesn't succeed where batches fail, and may take its time.
    Recovery,
}

/// A breaker. Closed at first.
#[derive(Debug, Clone)]
pub struct Breaker {
    rules: Rules,
    state: State,
    era: Era,
    /// Backoffs so far, probes that failed included, since the last calm.
    backoffs: u32,
    /// Probes in a row that succeeded while it is open.
    succeeded: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        /// Failures in a row.
        failures: u32,
        since: Option<Duration>,
    },
    Open {
        since: Duration,
        until: Duration,
    },
    HalfOpen {
        since: Duration,
    },
}

impl Breaker {
    /// One that is closed.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Closed {
                failures: 0,
                since: None,
            },
            era: Era(0),
            backoffs: 0,
            succeeded: 0,
        }
    }

    /// Whether anybody may try; then with the era to report with.
    pub fn enter(&self) -> Option<Era> {
        matches!(self.state, State::Closed { .. }).then_some(self.era)
    }

    /// Whether a probe may be made. In a closed breaker it always may.
    pub fn probe(&mut self, now: Duration) -> Turn {
        match self.state {
            State::Closed { .. } => Turn::Now(self.era),
            State::HalfOpen { .. } => Turn::Taken,
            State::Open { until, .. } if now < until => Turn::At(until),
            State::Open { since, .. } => {
                self.turn(State::HalfOpen { since });
                Turn::Now(self.era)
            }
        }
    }

    /// What was tried worked.
    pub fn succeeded(&mut self, era: Era, now: Duration) -> Change {
        match &mut self.state {
            _ if era != self.era => Change::Nothing,
            State::Closed { failures, .. } => {
                *failures = 0;
                Change::Nothing
            }
            State::Open { .. } => Change::Nothing,
            State::HalfOpen { .. } => {
                self.succeeded = self.succeeded.saturating_add(1);
                if self.succeeded < self.rules.probes {
                    // The next one may come at once.
                    self.undecided(era, now);
                    return Change::Nothing;
                }
                self.proven(era, now)
            }
        }
    }

    /// What was tried proves as much as several probes do: it closes at once.
    pub fn proven(&mut self, era: Era, now: Duration) -> Change {
        match self.state {
            State::HalfOpen { since } if era == self.era => {
                self.turn(State::Closed {
                    failures: 0,
                    since: Some(now),
                });
                Change::Closed {
                    after: now.saturating_sub(since),
                }
            }
            _ => Change::Nothing,
        }
    }

    /// The probe found nothing out: another one may be made at once.
    pub fn undecided(&mut self, era: Era, now: Duration) {
        if let State::HalfOpen { since } = self.state
            && era == self.era
        {
            self.turn(State::Open { since, until: now });
        }
    }

    /// What failed was replaced: a probe may be made at once, also while another one is in hand, and the backoff
    /// begins anew. What is being tried has no say any more.
    pub fn replaced(&mut self, now: Duration) {
        self.backoffs = 0;
        self.succeeded = 0;
        self.turn(match self.state {
            State::Closed { .. } => State::Closed {
                failures: 0,
                since: None,
            },
            State::Open { since, .. } | State::HalfOpen { since } => {
                State::Open { since, until: now }
            }
        });
    }

    /// Closes it without a probe, and forgets everything.
    pub fn close(&mut self) {
        self.backoffs = 0;
        self.turn(State::Closed {
            failures: 0,
            since: None,
        });
    }

    /// While it is not closed: since when, until when nothing is tried (none while a probe is in hand), and how many probes in a row
    /// succeeded.
    pub fn open_since(&self) -> Option<(Duration, Option<Duration>, u32)> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { since, until } => Some((since, Some(until), self.succeeded)),
            State::HalfOpen { since } => Some((since, None, self.succeeded)),
        }
    }

    /// What was tried failed. `random` is between 0 and 1.
    pub fn failed(&mut self, era: Era, now: Duration, random: f64) -> Change {
        match self.state {
            _ if era != self.era => Change::Nothing,
            State::Closed { failures, since } => {
                let failures = failures.saturating_add(1);
                if failures < self.rules.failures_max {
                    self.state = State::Closed { failures, since };
                    return Change::Nothing;
                }
                let calm = since.is_none_or(|since| now.saturating_sub(since) >= self.rules.calm);
                if calm {
                    self.backoffs = 0;
                }
                self.open(now, now, random);
                Change::Opened
            }
            State::Open { .. } => Change::Nothing,
            State::HalfOpen { since } => {
                self.open(since, now, random);
                Change::StillOpen
            }
        }
    }

    fn open(&mut self, since: Duration, now: Duration, random: f64) {
        let Rules {
            backoff,
            backoff_max,
            ..
        } = self.rules;
        let pause = retry::full_jitter(backoff, self.backoffs, backoff_max, random);
        self.backoffs = self.backoffs.saturating_add(1);
        self.succeeded = 0;
        let until = now.saturating_add(pause);
        self.turn(State::Open { since, until });
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.era = Era(self.era.0 + 1);
    }
}

#[cfg(test)]
mod tests;
