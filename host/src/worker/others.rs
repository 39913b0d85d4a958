//! When the plugin faults at a probe's message: whether it can decide others, so that the fault is that message's alone.
//!
//! The message is the first of its partition and nothing gets past it, so without this one that fails for good would keep the
//! breaker open until a person closes it. The others are asked about and that is all: what is decided about them is thrown
//! away, and they are decided again in their turn.

use taskhost_core::fault::Fault;
use taskhost_core::round::{self, Ground, Items, Rung};
use taskhost_core::route_breaker::Tally;

use super::commit::plugins_failed;
use super::{Failure, Worker};
use crate::shared::{Plugins, deciding};

impl Worker {
    /// The plugin faulted at the probe's message, the first of these; nothing of it is committed. The next one is decided
    /// alone, also if the breaker closes now: so the message at fault can't be cut off from the others of its batch.
    pub(super) async fn probe_failed(
        &mut self,
        fault: &Fault,
        items: Items,
        plugins: &Plugins,
    ) -> Result<(), Failure> {
        let Some(probe) = self.claimed.routes.probing.take() else {
            return Ok(());
        };
        let others = items.others(probe.route(), probe.others());
        let tally = match others.list.is_empty() {
            true => Tally::default(),
            false => self.ask_about(others, probe.route(), plugins).await?,
        };
        probe.failed(fault, tally);
        Ok(())
    }

    /// Decides them one by one, and commits nothing.
    async fn ask_about(
        &mut self,
        others: Items,
        route: usize,
        plugins: &Plugins,
    ) -> Result<Tally, Failure> {
        let Some(ground) = self.read_ground(&others).await? else {
            return Ok(Tally::default());
        };
        let ground = Ground {
            is_probe: true,
            ..ground
        };
        let asking = plugins.asking(&self.partition);
        let decided = deciding(|| round::decide(&others, &ground, &Rung::OneByOne, &asking));
        let round = decided.map_err(|error| plugins_failed(&error.to_string()))?;
        let tally = round.tallies.of(route);
        // A deadline counts here at once: there is no second try.
        let faults = u64::try_from(round.faults.len()).unwrap_or(u64::MAX);
        Ok(Tally {
            decided: tally.decided - tally.faults + faults,
            faults,
        })
    }
}
