//! The breakers of a host's routes: whether a worker may decide, and what is to become of what it decided.
//!
//! ```text
//!   gate ──► go: decide a batch ──► judge ──► commit, or not: the batch that trips the breaker is rolled back
//!      └───► shut ──► probe: one message, alone ──► succeeded: the next one, or closed │ failed: open for longer
//! ```
//!
//! Each host has its own window and its own state; what a person orders holds for all of them. While a breaker is open
//! every partition of its route's topic pauses: the topic has one order, so nothing behind a message can be decided before it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhost_core::breaker::{Change, Era, Turn};
use taskhost_core::fault::Fault;
use taskhost_core::route_breaker::{
    Hold, Judged, Receipt, RouteBreaker, Rules, Snapshot, State, Tally,
};
use tokio::time::Instant;

use crate::chance;
use crate::store::{BreakerOrder, OrderedState};
use crate::watched::{Watched, Watcher};

pub use super::told::{Deciding, Observer, Told, Why};

/// Whether a batch of a topic may be decided.
#[derive(Debug)]
pub enum Gate {
    /// It may; each route with the era to have it judged with.
    Go(Vec<(usize, Era)>),
    /// A breaker is open.
    Shut {
        /// Which and why, for people.
        reason: String,
        /// When a single message may be tried, if nobody else does already.
        until: Option<Instant>,
    },
}

/// All breakers of a host, by the route's number.
pub struct RouteBreakers {
    began: Instant,
    list: Vec<One>,
    /// Counts changes.
    changes: Watched<u64>,
    observer: Box<dyn Observer>,
}

struct One {
    name: Arc<str>,
    inner: Mutex<Inner>,
}

struct Inner {
    breaker: RouteBreaker,
    deciding: Deciding,
    /// Why it is not closed.
    reason: String,
    /// The figures with which it opened, and the code of a fault.
    figures: Tally,
    code: Option<&'static str>,
    /// The number of the last order that was carried out.
    order: i64,
    /// Whether it was told that single messages are tried.
    half_open: bool,
    /// What made the next probe possible.
    next: Why,
}

impl RouteBreakers {
    /// All closed.
    #[must_use]
    pub fn new<'a>(
        rules: Rules,
        routes: impl Iterator<Item = &'a str>,
        observer: impl Observer + 'static,
    ) -> Self {
        let one = |name: &str| One {
            name: name.into(),
            inner: Mutex::new(Inner {
                breaker: RouteBreaker::new(rules),
                deciding: Deciding::default(),
                reason: String::new(),
                figures: Tally::default(),
                code: None,
                order: 0,
                half_open: false,
                next: Why::Probe,
            }),
        };
        Self {
            began: Instant::now(),
            list: routes.map(one).collect(),
            changes: Watched::new(0),
            observer: Box::new(observer),
        }
    }

    /// Tells when something changed.
    #[must_use]
    pub fn subscribe(&self) -> Watcher<u64> {
        self.changes.watch()
    }

    /// Whether a batch of these routes may be decided.
    #[must_use]
    pub fn gate(&self, routes: &[usize]) -> Gate {
        let (mut eras, mut reasons, mut until) = (Vec::new(), Vec::new(), None);
        let mut held = false;
        for (route, one) in self.of(routes) {
            let inner = one.lock();
            if let Some(era) = inner.breaker.enter() {
                eras.push((route, era));
                continue;
            }
            reasons.push(format!("breaker of {}: {}", one.name, inner.reason));
            held |= inner.breaker.hold() == Hold::Open;
            if let Some((_, Some(at), _)) = inner.breaker.open_since() {
                let at = self.began + at;
                until = Some(until.map_or(at, |earlier: Instant| earlier.min(at)));
            }
        }
        match reasons.is_empty() {
            true => Gate::Go(eras),
            false => Gate::Shut {
                reason: reasons.join("; "),
                // Nothing of the topic is tried while a person holds one of its routes.
                until: until.filter(|_| !held),
            },
        }
    }

    /// The era in which whatever is decided of a route now begins; none while its breaker isn't closed.
    #[must_use]
    pub fn enter(&self, route: usize) -> Option<Era> {
        self.list.get(route)?.lock().breaker.enter()
    }

    /// The right to try a single message, which is of route `head` if that is known. If that route's breaker isn't closed
    /// it is a probe of it, else of the first one of these routes that may be probed: the message has to go before its own can come.
    pub fn probe(self: &Arc<Self>, routes: &[usize], head: Option<usize>) -> Option<Probe> {
        match head.filter(|head| self.enter(*head).is_none()) {
            Some(head) => self.probe_of(head),
            None => routes.iter().find_map(|route| self.probe_of(*route)),
        }
    }

    fn probe_of(self: &Arc<Self>, route: usize) -> Option<Probe> {
        let one = self.list.get(route)?;
        let mut inner = one.lock();
        if inner.breaker.enter().is_some() {
            return None;
        }
        let Turn::Now(era) = inner.breaker.probe(self.now()) else {
            return None;
        };
        if !inner.half_open {
            inner.half_open = true;
            let why = inner.next;
            let reason = "single messages are tried".to_owned();
            self.tell(route, one, &inner, State::HalfOpen, why, reason, None);
        }
        Some(Probe {
            breakers: Arc::clone(self),
            route,
            era: Some(era),
        })
    }

    /// A route's breaker as it is now, to ask of a batch that is being decided.
    #[must_use]
    pub fn snapshot(&self, route: usize) -> Option<Snapshot> {
        let one = self.list.get(route)?;
        Some(one.lock().breaker.snapshot(self.now()))
    }

    /// Whether what was decided of a route since that era may be committed; it counts then, until it is withdrawn.
    #[must_use]
    pub fn judge(
        &self,
        route: usize,
        era: Era,
        tally: Tally,
        fault: Option<&Fault>,
        deciding: &Deciding,
    ) -> Option<Receipt> {
        let one = self.list.get(route)?;
        let mut inner = one.lock();
        match inner.breaker.judge(era, self.now(), tally, chance::share()) {
            Judged::Commit(receipt) => Some(receipt),
            Judged::Stale => None,
            Judged::Opened(figures) => {
                inner.figures = figures;
                inner.code = fault.map(|fault| fault.kind.code());
                // Which decided: that the host follows it may not have come here yet.
                inner.deciding = deciding.clone();
                inner.half_open = false;
                inner.next = Why::Probe;
                inner.reason = format!(
                    "{} of {} decisions were faults{}",
                    figures.faults,
                    figures.decided,
                    example(fault)
                );
                let reason = inner.reason.clone();
                self.tell(route, one, &inner, State::Open, Why::Faults, reason, None);
                drop(inner);
                self.bump();
                None
            }
        }
    }

    /// What was judged was not committed.
    pub fn withdraw(&self, route: usize, receipt: Receipt) {
        if let Some(one) = self.list.get(route) {
            one.lock().breaker.withdraw(receipt);
        }
    }

    /// Another version decides for a route from now on.
    pub fn activated(&self, route: &str, deciding: Deciding) {
        let Some((_, one)) = self.named(route) else {
            return;
        };
        let mut inner = one.lock();
        if inner.deciding == deciding {
            return;
        }
        inner.deciding = deciding;
        if inner.breaker.activated(self.now()) {
            inner.half_open = false;
            inner.next = Why::Activation;
        }
        drop(inner);
        self.bump();
    }

    /// Carries out a person's order, once.
    pub fn ordered(&self, order: &BreakerOrder) {
        let Some((route, one)) = self.named(&order.route) else {
            return;
        };
        let mut inner = one.lock();
        if order.number <= inner.order {
            return;
        }
        inner.order = order.number;
        let (hold, state) = match order.state {
            OrderedState::Open => (Hold::Open, State::Open),
            OrderedState::Closed => (Hold::Free, State::Closed),
            OrderedState::HeldClosed => (Hold::Closed, State::Closed),
        };
        let before = (inner.breaker.enter().is_some(), inner.breaker.hold());
        inner.breaker.order(hold);
        inner.half_open = false;
        inner.reason = match state {
            State::Closed => String::new(),
            _ => format!("held open by {}: {}", order.by, order.reason),
        };
        // An order from before this host began changes nothing if it is closed anyway.
        if before != (inner.breaker.enter().is_some(), hold) {
            let by = Some(order.by.clone());
            let reason = order.reason.clone();
            self.tell(route, one, &inner, state, Why::Person, reason, by);
        }
        drop(inner);
        self.bump();
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what is told of a change, put together in this one place"
    )]
    fn tell(
        &self,
        route: usize,
        one: &One,
        inner: &Inner,
        state: State,
        why: Why,
        reason: String,
        by: Option<String>,
    ) {
        let pause = match (state, inner.breaker.open_since()) {
            (State::Open, Some((_, Some(until), _))) => Some(until.saturating_sub(self.now())),
            _ => None,
        };
        self.observer.changed(&Told {
            route,
            name: Arc::clone(&one.name),
            state,
            why,
            reason,
            figures: inner.figures,
            code: inner.code,
            deciding: inner.deciding.clone(),
            by,
            held: inner.breaker.hold() != Hold::Free,
            pause,
        });
    }

    fn ended(&self, route: usize, era: Era, outcome: Outcome<'_>) {
        let Some(one) = self.list.get(route) else {
            return;
        };
        let mut inner = one.lock();
        let now = self.now();
        let change = match outcome {
            Outcome::Nothing => {
                inner.breaker.probe_undecided(era, now);
                Change::Nothing
            }
            Outcome::Succeeded => inner.breaker.probe_succeeded(era, now),
            Outcome::Failed(_, others) => {
                let random = chance::share();
                inner.breaker.probe_sampled(era, now, others, random)
            }
        };
        match change {
            Change::Nothing | Change::Opened => {}
            Change::StillOpen => {
                let fault = outcome.fault();
                inner.half_open = false;
                inner.next = Why::Probe;
                inner.code = fault.map(|fault| fault.kind.code());
                inner.reason = format!("a message that was tried is a fault{}", example(fault));
                let reason = inner.reason.clone();
                self.tell(route, one, &inner, State::Open, Why::Probe, reason, None);
            }
            Change::Closed { after } => {
                inner.half_open = false;
                inner.reason.clear();
                let reason = match outcome {
                    Outcome::Failed(fault, others) => format!(
                        "closed after {} ms: the plugin decides {} of {} others, so the message that was tried is at fault{}",
                        after.as_millis(),
                        others.decided.saturating_sub(others.faults),
                        others.decided,
                        example(Some(fault))
                    ),
                    _ => format!("closed after {} ms", after.as_millis()),
                };
                self.tell(route, one, &inner, State::Closed, Why::Probe, reason, None);
            }
        }
        drop(inner);
        self.bump();
    }

    fn of<'a>(&'a self, routes: &'a [usize]) -> impl Iterator<Item = (usize, &'a One)> {
        let one = move |route: &'a usize| Some((*route, self.list.get(*route)?));
        routes.iter().filter_map(one)
    }

    fn named(&self, route: &str) -> Option<(usize, &One)> {
        let mut all = self.list.iter().enumerate();
        all.find(|(_, one)| *one.name == *route)
    }

    fn bump(&self) {
        self.changes.change(|changes| *changes += 1);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

impl One {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves a breaker as it was: it changes as a whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for RouteBreakers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.list.iter().map(|one| &one.name);
        f.debug_list().entries(names).finish()
    }
}

fn example(fault: Option<&Fault>) -> String {
    fault.map_or_else(String::new, |fault| {
        format!(", such as {}: {}", fault.kind.code(), fault.reason)
    })
}

/// What a probe came to.
#[derive(Clone, Copy)]
enum Outcome<'a> {
    /// Nothing.
    Nothing,
    /// A message was decided.
    Succeeded,
    /// The plugin faulted at it; and what it did with others.
    Failed(&'a Fault, Tally),
}

impl<'a> Outcome<'a> {
    fn fault(self) -> Option<&'a Fault> {
        match self {
            Self::Failed(fault, _) => Some(fault),
            Self::Nothing | Self::Succeeded => None,
        }
    }
}

/// The right to try one message. Dropped without an outcome, somebody else gets it.
#[derive(Debug)]
pub struct Probe {
    breakers: Arc<RouteBreakers>,
    route: usize,
    era: Option<Era>,
}

impl Probe {
    /// The number of the route that is probed.
    #[must_use]
    pub fn route(&self) -> usize {
        self.route
    }

    /// How many others are worth asking about if the plugin faults at the message.
    #[must_use]
    pub fn others(&self) -> usize {
        let one = self.breakers.list.get(self.route);
        one.map_or(0, |one| one.lock().breaker.others())
    }

    /// A message of the route was decided, and that is committed.
    pub fn succeeded(mut self) {
        self.end(Outcome::Succeeded);
    }

    /// The plugin faulted at a message of the route; and what it did when it was asked about others.
    pub fn failed(mut self, fault: &Fault, others: Tally) {
        self.end(Outcome::Failed(fault, others));
    }

    fn end(&mut self, outcome: Outcome<'_>) {
        if let Some(era) = self.era.take() {
            self.breakers.ended(self.route, era, outcome);
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.end(Outcome::Nothing);
    }
}

#[cfg(test)]
mod tests;
