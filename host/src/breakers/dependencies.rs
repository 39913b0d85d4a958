//! The breakers of what a host can't do without: one for Postgres, one for Kafka.
//!
//! ```text
//!   a worker's failure ──► certain: open        ┌── open ──► every partition pauses; nothing is tried
//!                    └───► unclear: look now ─┐ │
//!   every 0.9 s ──────────────────────────────┴─► probe ──► works: close, and all go on at once
//! ```
//!
//! A breaker opens at the first failure that no single message or partition can cause: nobody gains by more tries at a
//! server that is gone, and a pause that was not needed is over with the next probe, within a tenth of a second. What one
//! connection or one batch could have met alone is a suspicion only, and the probe is made at once to decide.
//! While it is open one task probes for the whole host. Health, metrics and log are told by the breaker alone, so they
//! can't contradict what the workers do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::chance;
use crate::dependency::Dependency;
use crate::watched::{Watched, Watcher};
use taskhost_core::breaker::{Breaker, Change, Depth, Era, Extent, Rules, Turn};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a dependency is asked how it is while all is well: health shows a change within a second.
const EVERY: Duration = Duration::from_millis(900);

/// The longest pause between two probes. Shorter than a worker's own backoff may be, as it is one small question for
/// the whole host: after an outage, however long, everything goes on within this.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// If it opens again within this time, the backoff goes on: the probe works then where batches don't.
const CALM: Duration = Duration::from_secs(5);

/// Hears of changes. Called under the breaker's lock, so it must not wait.
pub trait Observer: Send + Sync {
    /// Partitions pause from now on.
    fn opened(&self, name: Dependency, reason: &str);

    /// A probe failed, for this reason.
    fn still_open(&self, name: Dependency, reason: &str);

    /// Partitions go on.
    fn closed(&self, name: Dependency, after: Duration);
}

/// Which breakers are open, each with its reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Open {
    postgres: Option<Arc<str>>,
    kafka: Option<Arc<str>>,
}

impl Open {
    /// Whether any is.
    #[must_use]
    pub fn any(&self) -> bool {
        self.postgres.is_some() || self.kafka.is_some()
    }

    /// Whether this one is.
    #[must_use]
    pub fn has(&self, name: Dependency) -> bool {
        self.get(name).is_some()
    }

    /// What is waited for, and why.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let said = |name: Dependency| {
            let reason = self.get(name).as_deref()?;
            Some(format!("{}: {reason}", name.as_str()))
        };
        let reasons: Vec<String> = Dependency::ALL.into_iter().filter_map(said).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn get(&self, name: Dependency) -> &Option<Arc<str>> {
        match name {
            Dependency::Postgres => &self.postgres,
            Dependency::Kafka => &self.kafka,
        }
    }

    fn set(&mut self, name: Dependency, reason: Option<Arc<str>>) {
        match name {
            Dependency::Postgres => self.postgres = reason,
            Dependency::Kafka => self.kafka = reason,
        }
    }
}

/// The eras in which a step began, to report its failures with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Eras {
    postgres: Option<Era>,
    kafka: Option<Era>,
}

/// Both breakers of a host.
pub struct Breakers {
    began: Instant,
    postgres: One,
    kafka: One,
    open: Watched<Open>,
    observer: Box<dyn Observer>,
}

struct One {
    machine: Mutex<Breaker>,
    /// Somebody met a failure that may be everybody's.
    suspected: Notify,
}

impl One {
    fn new(rules: Rules) -> Self {
        Self {
            machine: Mutex::new(Breaker::new(rules)),
            suspected: Notify::new(),
        }
    }

    fn machine(&self) -> MutexGuard<'_, Breaker> {
        // The machine changes in single assignments, so a panic elsewhere leaves no half of one.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Breakers {
    /// Both closed. `backoff` is the base of the pauses between probes.
    #[must_use]
    pub fn new(backoff: Duration, observer: impl Observer + 'static) -> Self {
        let rules = Rules {
            failures_max: 1,
            backoff,
            backoff_max: BACKOFF_MAX,
            calm: CALM,
            probes: 1,
        };
        Self {
            began: Instant::now(),
            postgres: One::new(rules),
            kafka: One::new(rules),
            open: Watched::new(Open::default()),
            observer: Box::new(observer),
        }
    }

    /// Tells what is open, and when that changes.
    #[must_use]
    pub fn subscribe(&self) -> Watcher<Open> {
        self.open.watch()
    }

    /// The eras in which whatever begins now begins.
    #[must_use]
    pub fn eras(&self) -> Eras {
        Eras {
            postgres: self.postgres.machine().enter(),
            kafka: self.kafka.machine().enter(),
        }
    }

    /// A step that began in these eras failed.
    pub fn failed(&self, name: Dependency, eras: Eras, extent: Extent, reason: &str) {
        let era = match name {
            Dependency::Postgres => eras.postgres,
            Dependency::Kafka => eras.kafka,
        };
        match (extent, era) {
            (Extent::Whole, Some(era)) => self.report(name, era, Err(reason)),
            (Extent::Unclear, _) => self.suspect(name),
            (Extent::Whole, None) | (Extent::Own, _) => {}
        }
    }

    /// Makes the next probe come at once.
    pub fn suspect(&self, name: Dependency) {
        self.one(name).suspected.notify_one();
    }

    /// It is gone altogether, says somebody who knows.
    pub fn gone(&self, name: Dependency, reason: &str) {
        self.failed(name, self.eras(), Extent::Whole, reason);
    }

    /// Probes for as long as it is polled: now and then while all is well, with full jitter while it is open.
    pub async fn look_after<F: Future<Output = Result<(), String>>>(
        &self,
        name: Dependency,
        probe: impl Fn(Depth) -> F,
    ) {
        let one = self.one(name);
        let mut depth = Depth::Light;
        loop {
            let turn = one.machine().probe(self.now());
            let era = match turn {
                Turn::Now(era) => era,
                Turn::At(until) => {
                    tokio::time::sleep(until.saturating_sub(self.now())).await;
                    continue;
                }
                // Nobody else probes.
                Turn::Taken => return,
            };
            if self.is_open(name) {
                depth = Depth::Recovery;
            }
            let found = probe(depth).await;
            self.report(name, era, found.as_ref().map(drop).map_err(String::as_str));
            if self.is_open(name) {
                continue;
            }
            depth = tokio::select! {
                biased;
                () = one.suspected.notified() => Depth::Suspicion,
                () = tokio::time::sleep(EVERY) => Depth::Light,
            };
        }
    }

    fn report(&self, name: Dependency, era: Era, outcome: Result<(), &str>) {
        let mut machine = self.one(name).machine();
        let now = self.now();
        let change = match outcome {
            Ok(()) => machine.succeeded(era, now),
            Err(_) => machine.failed(era, now, chance::share()),
        };
        let reason = outcome.err().unwrap_or_default();
        match change {
            Change::Nothing => return,
            Change::Opened => self.observer.opened(name, reason),
            Change::StillOpen => self.observer.still_open(name, reason),
            Change::Closed { after } => self.observer.closed(name, after),
        }
        self.open.change(|open| {
            open.set(name, outcome.err().map(Into::into));
        });
    }

    fn is_open(&self, name: Dependency) -> bool {
        self.open.get().has(name)
    }

    fn one(&self, name: Dependency) -> &One {
        match name {
            Dependency::Postgres => &self.postgres,
            Dependency::Kafka => &self.kafka,
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

impl std::fmt::Debug for Breakers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Breakers")
            .field("open", &self.open.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
