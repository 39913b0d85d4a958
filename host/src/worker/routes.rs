//! The breakers of the partition's routes: whether it may decide, single messages as probes, and the judgement of each
//! batch before it is committed.
//!
//! While a breaker is open nothing is decided, so nothing fails: no message is blamed, no attempt spent, nothing committed.
//! What is fetched waits in the feed, and what is committed already goes on being published.

use taskhost_core::fault::Kind;
use taskhost_core::partition::Action;
use taskhost_core::round::{Fate, Faulted, Round};
use taskhost_core::route_breaker::{Receipt, Tally};
use tokio::time::Instant;

use super::claimed::Shut;
use super::commit::Tried;
use super::rounds::From;
use super::{Failure, Worker};
use crate::breakers::routes::{Deciding, Gate, Probe};
use crate::shared::Plugins;
use crate::telemetry::health::PartitionState;

impl Worker {
    /// Whether the breakers let it decide; health shows if they don't.
    pub(super) fn may_decide(&mut self) -> bool {
        match self.shared.routes_breakers.gate(&self.own_routes) {
            Gate::Go(eras) => {
                self.claimed.routes.eras = eras.into_iter().collect();
                if self.claimed.routes.shut.take().is_some() {
                    self.show(&Action::Work);
                }
                true
            }
            Gate::Shut { reason, until } => {
                self.claimed.routes.eras.clear();
                // What waits grows no older.
                self.claimed.waiting.worked.stop();
                self.claimed.routes.shut = Some(Shut { until });
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
        if !self.claimed.routes.shut.is_some_and(is_due) {
            return Ok(false);
        }
        self.gather()?;
        let has_records = !self.claimed.fetched.pending.is_empty();
        let head = match has_records {
            true => self.next_route()?,
            false => {
                let Some(name) = self.read_next_row_route().await? else {
                    // Until something comes.
                    self.claimed.routes.shut = Some(Shut::default());
                    return Ok(false);
                };
                let mut routes = self.shared.rules.routes.iter();
                routes.position(|route| route.name == name)
            }
        };
        let breakers = &self.shared.routes_breakers;
        let Some(probe) = breakers.probe(&self.own_routes, head) else {
            // Somebody else was quicker, or another breaker has to be waited for.
            self.claimed.routes.shut = Some(Shut::default());
            return Ok(false);
        };
        let eras = self.own_routes.iter();
        let eras = eras.filter_map(|route| Some((*route, breakers.enter(*route)?)));
        self.claimed.routes.eras = eras.collect();
        self.claimed.routes.probing = Some(probe);
        let tried = match has_records {
            true => self.round(&From::Records).await,
            false => self.work_off_rows().await,
        };
        // Without an outcome it is somebody else's turn.
        self.claimed.routes.probing = None;
        tried
    }

    /// What of it counts if what was decided may be committed; else what became of it.
    pub(super) fn judge(&self, round: &Round, plugins: &Plugins) -> Result<Vec<Count>, Tried> {
        let probed = self.claimed.routes.probing.as_ref().map(Probe::route);
        if let Some(route) = probed.map(|route| self.shared.rules.routes[route].name.clone())
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
            let name = &self.shared.rules.routes[*route].name;
            let is_probed = |probe: &Probe| probe.route() == *route;
            if self.claimed.routes.probing.as_ref().is_some_and(is_probed) {
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
            let era = self.claimed.routes.eras.get(route);
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
        match self.claimed.routes.probing.take() {
            Some(probe) if round.tallies.of(probe.route()) != Tally::default() => probe.succeeded(),
            undecided => drop(undecided),
        }
    }
}

/// A route and what of it counts.
pub(super) type Count = (usize, Receipt);
