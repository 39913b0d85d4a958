//! When the plugin faults at a probe's message: whether it can decide others, so that the fault is that message's alone.
//!
//! The message is the first of its partition and nothing gets past it, so without this one that fails for good would keep the
//! breaker open until a person closes it. The others are asked about and that is all: what is decided about them is thrown
//! away, and they are decided again in their turn.

use std::collections::HashSet;
use std::sync::Arc;

use taskhost_core::batch::Wakeup;
use taskhost_core::fault::Fault;
use taskhost_core::route_breaker::Tally;

use super::causes::{self, Item, Items};
use super::decide::{self, Ground};
use super::plugins::Plugins;
use super::replay::Letters;
use super::{Dependency, Failure, Worker, now};
use crate::breaker::Extent;

impl Worker {
    /// [`Self::probe_failed`] at the next record.
    pub(super) async fn failed_at_record(
        &mut self,
        fault: &Fault,
        plugins: &Plugins,
    ) -> Result<(), Failure> {
        let (routes, records) = (&self.shared.routes, self.pending.iter());
        let all = causes::of_messages(records, routes, self.topic_id(), plugins);
        self.probe_failed(fault, all, plugins).await
    }

    /// [`Self::probe_failed`] at the first of the wakeups that are due.
    pub(super) async fn failed_at_wakeup(
        &mut self,
        fault: &Fault,
        due: &[Wakeup],
        letters: &Letters,
        plugins: &Plugins,
    ) -> Result<(), Failure> {
        let (routes, topic_id) = (&self.shared.routes, self.topic_id());
        let (all, _) = causes::of_wakeups(due, routes, topic_id, plugins, letters);
        self.probe_failed(fault, all, plugins).await
    }

    /// The plugin faulted at the probe's message, the first of these; nothing of it is committed. The next one is decided
    /// alone, also if the breaker closes now: so the message at fault can't be cut off from the others of its batch.
    async fn probe_failed(
        &mut self,
        fault: &Fault,
        items: Items,
        plugins: &Plugins,
    ) -> Result<(), Failure> {
        let Some(probe) = self.probing.take() else {
            return Ok(());
        };
        let others = others(items, probe.route(), probe.others());
        let tally = match others.list.is_empty() {
            true => Tally::default(),
            false => self.ask_about(others, probe.route(), plugins).await?,
        };
        self.singly = self.singly.max(1);
        probe.failed(fault, tally);
        Ok(())
    }

    /// Decides them one by one, in a transaction that ends with nothing done.
    async fn ask_about(
        &mut self,
        others: Items,
        route: usize,
        plugins: &Plugins,
    ) -> Result<Tally, Failure> {
        let Some(settings) = self.settings.clone() else {
            return Ok(Tally::default());
        };
        let mut batch = self.shared.store.begin(&self.key, self.epoch).await?;
        let ids = others.tasks();
        let tasks = batch.lock_tasks(&ids).await?;
        let blocked = match self.waiting > 0 {
            true => batch.blocked(&ids).await?,
            false => HashSet::new(),
        };
        let ground = Ground {
            settings,
            now: now(),
            tasks,
            blocked,
            worked: self.worked.millis(),
            breakers: Arc::clone(&self.shared.routes_breakers),
            probing: true,
            piece: 1,
            keep: false,
        };
        let decided =
            tokio::task::block_in_place(|| decide::decide(&others, &ground, plugins, false));
        batch.rollback().await;
        let round = decided.map_err(|error| Failure::Trouble {
            dependency: Dependency::Plugins,
            reason: error.to_string(),
            extent: Extent::Own,
        })?;
        let tally = round.tallies.0.get(&route).copied().unwrap_or_default();
        // A deadline counts here at once: there is no second try.
        let faults = u64::try_from(round.faults.len()).unwrap_or(u64::MAX);
        Ok(Tally {
            decided: tally.decided - tally.faults + faults,
            faults,
        })
    }
}

/// Those of the route behind the first one, at most so many: of each other task the first message, because what comes after
/// it depends on it.
fn others(items: Items, route: usize, most: usize) -> Items {
    let mut seen = HashSet::new();
    let of_route = items.list.into_iter().filter(|item| match item {
        Item::Cause(cause) => seen.insert(cause.task_id.clone()) && cause.route == route,
        Item::Undecodable { .. } | Item::Republish { .. } => false,
    });
    Items {
        list: of_route.skip(1).take(most).collect(),
    }
}
