//! Law 6, watched: a sample of the committed batches is decided again, each cause in a fresh instance, on the same
//! tasks. A plugin that answers otherwise then keeps something between causes, or reaches something.
//!
//! This happens off the hot path, on a thread for blocking work: one batch at a time for the host, for at most
//! [`TIME_MAX`]; what comes meanwhile is not sampled. So it holds at most one batch in memory. What was committed stays:
//! a finding is reported, and a person has to act.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhost_core::batch::Decider;
use taskhost_core::cause::Cause;
use taskhost_core::decision::Decision;
use taskhost_core::record::Position;
use taskhost_core::round::{self, Again, Ground, Items};
use taskhost_core::task::TaskId;
use tokio::time::Instant;

use super::plugins::Plugins;
use crate::telemetry::Metrics;

/// How long one batch may be decided again. What is left of it then is not looked at.
const TIME_MAX: Duration = Duration::from_secs(1);

/// A route with traffic has a batch decided again at least so often, however small the sample is.
const EVERY: Duration = Duration::from_secs(60);

/// A decision that came out otherwise when it was made again.
#[derive(Debug, Clone)]
pub struct Impurity {
    /// The route and the version that decides for it.
    pub decider: Arc<Decider>,
    /// Where the cause was read.
    pub position: Position,
    /// The task that it is for.
    pub task_id: TaskId,
    /// What differs.
    pub difference: String,
}

/// Told of impure plugins, on the thread where it is found.
pub trait PurityObserver: Send + Sync {
    /// A version decided otherwise when it was asked again. `is_first`: it was not told of this version before.
    fn impure(&self, found: &Impurity, is_first: bool);
}

/// Chooses batches and decides them again.
pub struct Purity {
    /// The share of batches, from 0 to 1. At 0 none is.
    share: f64,
    busy: Arc<AtomicBool>,
    /// When a batch of each route was chosen last.
    chosen: Mutex<HashMap<usize, Instant>>,
    /// Digests that were told of.
    told: Mutex<HashSet<String>>,
    metrics: Arc<Metrics>,
    observer: Box<dyn PurityObserver>,
}

/// The right to have a batch decided again; given back when it is dropped.
pub(crate) struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A committed batch, with all that its decisions were made of.
pub(crate) struct Evidence {
    pub(crate) items: Arc<Items>,
    pub(crate) ground: Ground,
    pub(crate) plugins: Plugins,
    /// The answer to each item that was decided together with others.
    pub(crate) decisions: Vec<Option<Decision>>,
}

impl Purity {
    /// Decides that share of the batches again.
    pub fn new(share: f64, metrics: Arc<Metrics>, observer: impl PurityObserver + 'static) -> Self {
        Self {
            share,
            busy: Arc::default(),
            chosen: Mutex::default(),
            told: Mutex::default(),
            metrics,
            observer: Box::new(observer),
        }
    }

    /// Chooses a batch before it is decided, so that its decisions are kept; none if it is not in the sample.
    pub(crate) fn choose(&self, items: &Items) -> Option<Turn> {
        if self.share <= 0.0 {
            return None;
        }
        let now = Instant::now();
        let mut chosen = lock(&self.chosen);
        let is_due = |route: &usize| {
            chosen
                .get(route)
                .is_none_or(|last| now.duration_since(*last) >= EVERY)
        };
        // One cause alone was decided in a fresh instance already.
        let causes = items.causes().take(2).count();
        let routes = items.routes();
        let wanted =
            causes == 2 && (routes.iter().any(is_due) || rand::random::<f64>() < self.share);
        if !wanted || self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        chosen.extend(routes.into_iter().map(|route| (route, now)));
        Some(Turn(self.busy.clone()))
    }

    /// Decides a committed batch again, elsewhere.
    pub(crate) fn look_at(self: &Arc<Self>, turn: Turn, evidence: Evidence) {
        let purity = self.clone();
        // Nobody waits for it, and a host that ends leaves it.
        drop(tokio::task::spawn_blocking(move || {
            let found = purity.decide_again(&evidence);
            purity.report(&found);
            drop(turn);
        }));
    }

    fn decide_again(&self, evidence: &Evidence) -> Vec<Impurity> {
        let Evidence {
            items,
            ground,
            plugins,
            decisions,
        } = evidence;
        let asking = plugins.asking_again(&ground.settings.partition);
        let again = Again {
            items,
            ground,
            decisions,
            time_max: TIME_MAX,
        };
        let found = round::differences(&again, &asking, |route| {
            let plugin = &plugins.decider(route).plugin;
            self.metrics.purity_checked(&plugin.name);
        });
        let differences: HashMap<usize, String> =
            found.into_iter().map(|one| (one.item, one.text)).collect();
        items
            .causes()
            .filter_map(|(number, cause)| {
                let decider = plugins.decider(cause.route);
                let difference = differences.get(&number)?.clone();
                Some(impurity(cause, decider, difference))
            })
            .collect()
    }

    fn report(&self, found: &[Impurity]) {
        let mut last = None;
        for one in found {
            let plugin = &one.decider.plugin;
            self.metrics.plugin_impure(&plugin.name);
            if last.replace(&plugin.digest) == Some(&plugin.digest) {
                continue;
            }
            let of_it = |other: &&Impurity| other.decider.plugin.digest == plugin.digest;
            tracing::error!(
                route = &*one.decider.route,
                plugin = plugin.name,
                version = plugin.version,
                digest = plugin.digest,
                topic = &*one.position.topic,
                partition = one.position.partition,
                offset = one.position.offset,
                task = one.task_id.as_str(),
                difference = one.difference,
                decisions = found.iter().filter(of_it).count(),
                "a plugin is impure: asked alone about the same, it decides otherwise; what is committed stays, and its \
                 author has to look"
            );
            let is_first = lock(&self.told).insert(plugin.digest.clone());
            self.observer.impure(one, is_first);
        }
    }
}

fn impurity(cause: &Cause, decider: &Arc<Decider>, difference: String) -> Impurity {
    Impurity {
        decider: decider.clone(),
        position: cause.position().clone(),
        task_id: cause.task_id.clone(),
        difference,
    }
}

/// Nothing that holds a lock can leave half a change behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Purity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Purity")
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}
