//! The breaker of a route: opens when too large a part of what its plugin decided of late were faults.
//!
//! A batch is judged before it is committed, and the one that trips the breaker is not: it is rolled back, so nothing of it
//! is a dead letter. What is judged counts at once, so that batches of several partitions see each other; what was not
//! committed after all is taken back ([`RouteBreaker::withdraw`]).
//!
//! The [`Breaker`] inside says how long it stays open and when a single message is tried as a probe. Here is what makes it
//! open, and what a person holds it at.

use std::time::Duration;

use crate::breaker::{self, Breaker, Change, Era, Turn};

/// The window is so many pieces, which leave it one by one.
const PIECES: u32 = 10;

/// So many probes in a row must succeed: a rule that fails every other message would close it every other time after one,
/// and cost dead letters until it opens again; after three it does once in eight. Each of them decides a message that has to
/// be decided anyway, without a pause in between.
const PROBES: u32 = 3;

/// So many others are asked about at least, if they are there, when the plugin faults at the probe's message.
const OTHERS_MIN: usize = 10;

/// And at most: each is a call of the plugin.
const OTHERS_MAX: usize = 200;

/// When a route's breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How far back decisions count.
    pub window: Duration,
    /// Fewer decisions than this say nothing. With 0 it never opens by itself.
    pub minimum: u32,
    /// It opens when so many of a hundred decisions were faults.
    pub percent: u32,
    /// The base of the backoff: full jitter, doubled with each probe that fails.
    pub open_time: Duration,
    /// The longest backoff.
    pub open_time_max: Duration,
}

/// What was decided, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Causes that the plugin was asked about for good.
    pub decided: u64,
    /// Of those, the ones at which it faulted.
    pub faults: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            decided: self.decided + other.decided,
            faults: self.faults + other.faults,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            decided: self.decided.saturating_sub(other.decided),
            faults: self.faults.saturating_sub(other.faults),
        }
    }
}

/// How a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything is decided.
    Closed,
    /// Nothing is.
    Open,
    /// Single messages are.
    HalfOpen,
}

impl State {
    /// All of them, for metrics that start at 0.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// Its name in metrics, events and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// What a person holds a breaker at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: it opens and closes by itself.
    #[default]
    Free,
    /// It stays open, without probes.
    Open,
    /// It stays closed, whatever fails.
    Closed,
}

/// A batch that was judged and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    era: Era,
    piece: u64,
    tally: Tally,
}

/// What is to become of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// It may be committed.
    Commit(Receipt),
    /// It may not: the breaker opened by it. The window's figures, the batch's included.
    Opened(Tally),
    /// It may not: since it began the breaker opened, or its plugin was replaced.
    Stale,
}

/// A breaker of a route. Closed at first.
#[derive(Debug, Clone)]
pub struct RouteBreaker {
    rules: Rules,
    machine: Breaker,
    hold: Hold,
    /// Each with the number of its piece of time; the piece's place is its number modulo theirs.
    window: [(u64, Tally); PIECES as usize],
}

/// A breaker as it was at a moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    breaker: RouteBreaker,
    now: Duration,
}

impl Snapshot {
    /// [`RouteBreaker::is_certain`] at that moment.
    #[must_use]
    pub fn is_certain(&self, tally: Tally, rest: u64) -> bool {
        self.breaker.is_certain(self.now, tally, rest)
    }
}

impl RouteBreaker {
    /// One that is closed, with nothing counted.
    pub fn new(rules: Rules) -> Self {
        let machine = Breaker::new(breaker::Rules {
            failures_max: 1,
            backoff: rules.open_time,
            backoff_max: rules.open_time_max,
            calm: rules.window,
            probes: PROBES,
        });
        Self {
            rules,
            machine,
            hold: Hold::Free,
            window: Default::default(),
        }
    }

    /// Whether a batch may be decided; then with the era to have it judged with.
    pub fn enter(&self) -> Option<Era> {
        match self.hold {
            Hold::Open => None,
            Hold::Free | Hold::Closed => self.machine.enter(),
        }
    }

    /// Whether a batch is certain to open it, whatever becomes of the `rest` of its causes: there is no use in asking
    /// about them.
    pub fn is_certain(&self, now: Duration, tally: Tally, rest: u64) -> bool {
        let all = self.figures(now).plus(tally);
        let at_best = Tally {
            decided: all.decided + rest,
            ..all
        };
        self.opens(tally, all) && self.opens(tally, at_best)
    }

    /// The breaker as it is now, to ask of a batch that is being decided.
    #[must_use]
    pub fn snapshot(&self, now: Duration) -> Snapshot {
        Snapshot {
            breaker: self.clone(),
            now,
        }
    }

    /// Says whether a batch that was decided may be committed. `random` is between 0 and 1.
    pub fn judge(&mut self, era: Era, now: Duration, tally: Tally, random: f64) -> Judged {
        if self.enter() != Some(era) {
            return Judged::Stale;
        }
        let all = self.figures(now).plus(tally);
        if self.opens(tally, all) {
            self.machine.failed(era, now, random);
            self.forget();
            return Judged::Opened(all);
        }
        let piece = self.piece(now);
        self.count(piece, tally);
        Judged::Commit(Receipt { era, piece, tally })
    }

    /// A batch that was judged was not committed: it doesn't count.
    pub fn withdraw(&mut self, receipt: Receipt) {
        let (number, counted) = &mut self.window[place(receipt.piece)];
        if self.machine.enter() == Some(receipt.era) && *number == receipt.piece {
            *counted = counted.minus(receipt.tally);
        }
    }

    /// Whether a single message may be decided as a probe.
    pub fn probe(&mut self, now: Duration) -> Turn {
        match self.hold {
            Hold::Open => Turn::Taken,
            Hold::Free | Hold::Closed => self.machine.probe(now),
        }
    }

    /// The probe's message was decided and committed.
    pub fn probe_succeeded(&mut self, era: Era, now: Duration) -> Change {
        self.machine.succeeded(era, now)
    }

    /// The plugin faulted at the probe's message.
    pub fn probe_failed(&mut self, era: Era, now: Duration, random: f64) -> Change {
        self.machine.failed(era, now, random)
    }

    /// How many others are worth asking about when the plugin faults at the probe's message: enough for a fault or two among
    /// them to say nothing.
    #[must_use]
    pub fn others(&self) -> usize {
        let enough = 400 / self.rules.percent.max(1);
        usize::try_from(enough)
            .unwrap_or(OTHERS_MAX)
            .clamp(OTHERS_MIN, OTHERS_MAX)
    }

    /// The plugin faulted at the probe's message, and was asked about others, of which nothing was kept. If it can decide
    /// them, it is that message's fault and not the plugin's: the breaker closes, and has the others in its window, so
    /// that the message alone doesn't open it again. Half of the ratio that opens it is too much here: a plugin that fails every
    /// other message comes through once in a hundred times.
    pub fn probe_sampled(&mut self, era: Era, now: Duration, others: Tally, random: f64) -> Change {
        let good = others.decided.saturating_sub(others.faults);
        let (faults, all) = (
            u128::from(others.faults) + 1,
            u128::from(others.decided) + 1,
        );
        let is_fine =
            good >= u64::from(PROBES) && faults * 200 < all * u128::from(self.rules.percent);
        if !is_fine {
            return self.machine.failed(era, now, random);
        }
        let change = self.machine.proven(era, now);
        if matches!(change, Change::Closed { .. }) {
            self.count(self.piece(now), others);
        }
        change
    }

    /// The probe came to nothing: it found no message, or something else failed.
    pub fn probe_undecided(&mut self, era: Era, now: Duration) {
        self.machine.undecided(era, now);
    }

    /// Another version decides: what the one before did says nothing about it, and if it is open, a probe may be made at
    /// once. True if it is open, not held by a person.
    pub fn activated(&mut self, now: Duration) -> bool {
        self.forget();
        self.machine.replaced(now);
        self.hold != Hold::Open && self.machine.enter().is_none()
    }

    /// A person's order: held open or closed, or closed and free to open. Its window begins anew.
    pub fn order(&mut self, hold: Hold) {
        self.hold = hold;
        self.forget();
        // Also what is held open: it is closed once it is let go.
        self.machine.close();
    }

    /// What a person holds it at.
    pub fn hold(&self) -> Hold {
        self.hold
    }

    /// While it is open by itself: since when, until when nothing is tried (none while a probe is in hand), and how many
    /// probes in a row succeeded.
    pub fn open_since(&self) -> Option<(Duration, Option<Duration>, u32)> {
        self.machine.open_since()
    }

    /// What counts now.
    pub fn figures(&self, now: Duration) -> Tally {
        let piece = self.piece(now);
        let counts = |number: u64| number <= piece && piece - number < u64::from(PIECES);
        let within = self.window.iter().filter(|(number, _)| counts(*number));
        within.fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally))
    }

    /// A batch without a fault never opens it, whatever the ones before were like.
    fn opens(&self, batch: Tally, all: Tally) -> bool {
        let Rules {
            minimum, percent, ..
        } = self.rules;
        self.hold != Hold::Closed
            && minimum > 0
            && batch.faults > 0
            && all.decided >= u64::from(minimum)
            && u128::from(all.faults) * 100 >= u128::from(all.decided) * u128::from(percent)
    }

    fn count(&mut self, piece: u64, tally: Tally) {
        let (number, counted) = &mut self.window[place(piece)];
        if *number != piece {
            (*number, *counted) = (piece, Tally::default());
        }
        *counted = counted.plus(tally);
    }

    fn piece(&self, now: Duration) -> u64 {
        let width = (self.rules.window / PIECES).as_nanos().max(1);
        u64::try_from(now.as_nanos() / width).unwrap_or(u64::MAX)
    }

    fn forget(&mut self) {
        self.window = Default::default();
    }
}

fn place(piece: u64) -> usize {
    usize::try_from(piece % u64::from(PIECES)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
