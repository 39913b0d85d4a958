//! The breakers of the partition's routes: whether it may decide, single messages as probes, and the judgement of each
//! batch before it is committed.
//!
//! While a breaker is open nothing is decided, so nothing fails: no message is blamed, no attempt spent, nothing committed.
//! What is fetched waits in the feed, and what is committed already goes on being published.

use std::time::Instant;

use taskhost_core::fault::Kind;
use taskhost_core::partition::Action;
use taskhost_core::route_breaker::{Receipt, Tally};

use super::causes::{self, Item};
use super::commit::Tried;
use super::decide::{Fate, Faulted, Round};
use super::plugins::Plugins;
use super::{Failure, Worker, now};
use crate::route_breaker::{Deciding, Gate, Probe};
use crate::telemetry::health::PartitionState;

/// That a breaker keeps the partition from deciding.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shut {
    /// When a single message may be tried; none while somebody else does, or there is nothing to try.
    pub(super) until: Option<Instant>,
}

impl Worker {
    /// Whether the breakers let it decide; health shows if they don't.
    pub(super) fn may_decide(&mut self) -> bool {
        match self.shared.routes_breakers.gate(&self.own_routes) {
            Gate::Go(eras) => {
                self.entered = eras.into_iter().collect();
                if self.shut.take().is_some() {
                    self.show(&Action::Work);
                }
                true
            }
            Gate::Shut { reason, until } => {
                self.entered.clear();
                // What waits grows no older.
                self.worked.stop();
                self.shut = Some(Shut { until });
                let (topic, partition) = (&*self.partition.topic, self.partition.partition);
                let health = &self.shared.health;
                health.set_partition(topic, partition, PartitionState::Paused { reason });
                false
            }
        }
    }

    /// Tries a single message, or a wakeup that is due, if its turn has come and there is one. False if there was nothing to
    /// do.
    pub(super) async fn probe(&mut self) -> Result<bool, Failure> {
        let is_due = |shut: Shut| shut.until.is_some_and(|until| until <= Instant::now());
        if !self.shut.is_some_and(is_due) {
            return Ok(false);
        }
        self.gather()?;
        let head = match self.pending.front() {
            Some(_) => self.head()?,
            None => {
                let due = self.next_due.is_some_and(|due| due <= now());
                let due = match due {
                    true => self.shared.store.due(&self.key, now(), 1).await?,
                    false => Vec::new(),
                };
                let route = match due.into_iter().next() {
                    Some(first) => first.route,
                    None => match self.first_replay().await? {
                        Some(first) => first.route,
                        None => {
                            // Until something comes.
                            self.shut = Some(Shut::default());
                            return Ok(false);
                        }
                    },
                };
                let mut routes = self.shared.routes.iter();
                routes.position(|known| known.name == route)
            }
        };
        let breakers = &self.shared.routes_breakers;
        let Some(probe) = breakers.probe(&self.own_routes, head) else {
            // Somebody else was quicker, or another breaker has to be waited for.
            self.shut = Some(Shut::default());
            return Ok(false);
        };
        let eras = self.own_routes.iter();
        let eras = eras.filter_map(|route| Some((*route, breakers.enter(*route)?)));
        self.entered = eras.collect();
        self.probing = Some(probe);
        let tried = match self.pending.is_empty() {
            false => self.messages().await.map(|()| true),
            true => self.wakeups().await,
        };
        // Without an outcome it is somebody else's turn.
        self.probing = None;
        tried
    }

    /// The route of the next record; none for one that can't be decoded.
    fn head(&self) -> Result<Option<usize>, Failure> {
        let plugins = self.plugins()?;
        let routes = &self.shared.routes;
        let first = self.pending.iter().take(1);
        let items = causes::of_messages(first, routes, self.topic_id(), &plugins);
        Ok(items.list.first().and_then(|item| match item {
            Item::Cause(cause) => Some(cause.route),
            Item::Undecodable { .. } | Item::Republish { .. } => None,
        }))
    }

    /// What of it counts if what was decided may be committed; else what became of it.
    pub(super) fn judge(&self, round: &Round, plugins: &Plugins) -> Result<Vec<Count>, Tried> {
        let probed = self.probing.as_ref().map(Probe::route);
        if let Some(route) = probed.map(|route| self.shared.routes[route].name.clone())
            && let Some(faulted) = round.faults.iter().find(|one| {
                // What Postgres refuses is no fault of the plugin's.
                *one.decider.route == *route && one.fault.kind != Kind::RefusedByDatabase
            })
        {
            // Also a deadline: that nothing is decided is worse than that the machine may have been at fault.
            return Err(Tried::ProbeFailed(faulted.fault.clone()));
        }
        let mut counted = Vec::new();
        for (route, tally) in &round.tallies.0 {
            let name = &self.shared.routes[*route].name;
            let is_probed = |probe: &Probe| probe.route() == *route;
            if self.probing.as_ref().is_some_and(is_probed) {
                continue;
            }
            let of_route = |faulted: &&Faulted| {
                *faulted.decider.route == **name && faulted.fate != Fate::TriedAgain
            };
            let fault = round.faults.iter().find(of_route);
            let fault = fault.map(|faulted| &faulted.fault);
            let deciding = Deciding {
                activation: plugins.activation(*route).unwrap_or_default(),
                digest: plugins.decider(*route).plugin.digest.clone(),
            };
            let breakers = &self.shared.routes_breakers;
            let era = self.entered.get(route);
            match era.and_then(|era| breakers.judge(*route, *era, *tally, fault, &deciding)) {
                Some(receipt) => counted.push((*route, receipt)),
                None => {
                    self.withdraw(counted);
                    return Err(Tried::Shut);
                }
            }
        }
        Ok(counted)
    }

    /// What was judged was not committed.
    pub(super) fn withdraw(&self, counted: Vec<Count>) {
        for (route, receipt) in counted {
            self.shared.routes_breakers.withdraw(route, receipt);
        }
    }

    /// A batch is committed: if it was the probe's and its message was of the probed route, the probe succeeded.
    pub(super) fn probed(&mut self, round: &Round) {
        let probed = |route| round.tallies.0.get(&route).copied().unwrap_or_default();
        match self.probing.take() {
            Some(probe) if probed(probe.route()) != Tally::default() => probe.succeeded(),
            undecided => drop(undecided),
        }
    }
}

/// A route and what of it counts.
pub(super) type Count = (usize, Receipt);
