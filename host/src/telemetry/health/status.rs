//! The registry of the host's current state.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use time::OffsetDateTime;

use super::breakers::{RolledBackVersion, RouteBreaker};
use super::history::PastActivation;
use crate::config::Route;
use crate::dependency::Dependency;

/// Whether a dependency answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DependencyState {
    /// Its last answer was good.
    Up,
    /// It doesn't answer, for this reason.
    Down {
        /// A sentence for the operator; no secrets.
        reason: String,
    },
}

/// What a partition's worker is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum PartitionState {
    /// Taking the partition over from its previous owner.
    Claiming,
    /// Publishing batches that were committed and not yet published.
    Recovering,
    /// Deciding messages.
    Running,
    /// Waiting for a dependency that is away, or before a failed step is tried again.
    Paused {
        /// What for.
        reason: String,
    },
    /// Finishing before it is given back.
    Draining,
    /// Waiting for an operator.
    Halted {
        /// What is wrong, and the command that resolves it.
        reason: String,
    },
}

/// The consumer group as this host sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// `group.id`.
    pub id: String,
    /// Kafka's name of its state, such as `Stable`; `unknown` until Kafka has answered.
    pub state: String,
    /// How many members it has, if Kafka has answered.
    pub members: Option<u32>,
    /// Whether this host is one of them.
    pub joined: bool,
}

/// How many brokers are known, and how many of them can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BrokerCount {
    /// Those in the cluster's metadata.
    pub known: u32,
    /// Those with a connection that works.
    pub reachable: u32,
}

/// The active plugin version of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningPlugin {
    /// The route's name.
    pub route: String,
    /// The plugin's own name for itself.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// The number of the activation that made it current.
    pub activation: i64,
    /// When it became active on this host.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// A refused plugin file, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedPlugin {
    /// The route it was meant for.
    pub route: String,
    /// The file, or where else it came from.
    pub file: String,
    /// SHA-256 of its bytes, in hexadecimal, if they could be read.
    pub digest: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// When it was refused.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// A version that gave a different answer when it was asked a second time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImpurePlugin {
    /// The route it decides for.
    pub route: String,
    /// The plugin's own name for itself.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// Where the message is that showed it last: `topic[partition]@offset`.
    pub message: String,
    /// The task that it is for.
    pub task: String,
    /// What differs.
    pub difference: String,
    /// When it was found last.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// Due timers and messages of a partition that this host can't decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrandedWakeups {
    /// How many.
    pub wakeups: u64,
    /// Why one of them can't be.
    pub reason: String,
}

/// The whole state at one moment.
#[derive(Clone, Debug, Default)]
// Many fields: each is a part of the health page.
pub struct Snapshot {
    /// The routes that need a plugin.
    pub routes: Vec<Route>,
    /// The state of each dependency.
    pub dependencies: BTreeMap<Dependency, DependencyState>,
    /// The brokers, counted.
    pub brokers: BrokerCount,
    /// The consumer group.
    pub group: Group,
    /// The partitions this host has, by real topic and number.
    pub partitions: BTreeMap<(String, i32), PartitionState>,
    /// The stranded wakeups of these partitions.
    pub stranded: BTreeMap<(String, i32), StrandedWakeups>,
    /// The active versions, by route.
    pub plugins: BTreeMap<String, RunningPlugin>,
    /// The last activations by route, the current one first.
    pub history: BTreeMap<String, Arc<[PastActivation]>>,
    /// The routes' breakers.
    pub breakers: BTreeMap<String, RouteBreaker>,
    /// Versions that were rolled back, by route, the latest first.
    pub rolled_back: BTreeMap<String, Arc<[RolledBackVersion]>>,
    /// The refusals, the latest first.
    pub refused: VecDeque<RefusedPlugin>,
    /// Impure versions, by digest.
    pub impure: BTreeMap<String, ImpurePlugin>,
    /// Problems that stop the host's work although the dependencies answer, by subject: `rights`, `group`, `publisher`,
    /// `background`. The host retries, and a problem disappears by itself once somebody has corrected it.
    pub troubles: BTreeMap<&'static str, String>,
    /// The unresolved dead letters of the group; none until they are counted.
    pub dead_letters: Option<u64>,
    /// Background tasks that failed and were started again, with the last reason.
    pub restarted: BTreeMap<&'static str, String>,
    /// Whether the host is stopping.
    pub stopping: bool,
}

/// How many refusals are remembered: enough to see a bad afternoon, and bounded.
const REFUSED_MAX: usize = 100;

/// The registry; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<RwLock<Snapshot>>);

impl Status {
    /// A host that just started: nothing answers yet, no partition is assigned, no plugin is active.
    #[must_use]
    pub fn new(group_id: &str, routes: &[Route]) -> Self {
        let down = || DependencyState::Down {
            reason: "not connected yet".into(),
        };
        let group = Group {
            id: group_id.to_owned(),
            state: "unknown".into(),
            ..Group::default()
        };
        Self(Arc::new(RwLock::new(Snapshot {
            routes: routes.to_vec(),
            breakers: routes
                .iter()
                .map(|route| (route.name.clone(), RouteBreaker::closed(&route.name)))
                .collect(),
            dependencies: [(Dependency::Kafka, down()), (Dependency::Postgres, down())].into(),
            group,
            ..Snapshot::default()
        })))
    }

    /// Sets whether a dependency answers.
    pub fn set_dependency(&self, dependency: Dependency, state: DependencyState) {
        self.change(|now| {
            now.dependencies.insert(dependency, state);
        });
    }

    /// Sets how many brokers there are and how many can be reached.
    pub fn set_brokers(&self, brokers: BrokerCount) {
        self.change(|now| now.brokers = brokers);
    }

    /// Sets the state of the consumer group; its id stays.
    pub fn set_group(&self, state: &str, members: Option<u32>, joined: bool) {
        self.change(|now| {
            now.group.state = state.to_owned();
            now.group.members = members;
            now.group.joined = joined;
        });
    }

    /// Sets what a partition's worker is doing. The first call also adds the partition.
    pub fn set_partition(&self, topic: &str, partition: i32, state: PartitionState) {
        self.change(|now| {
            now.partitions.insert((topic.to_owned(), partition), state);
        });
    }

    /// Removes a partition that was given back or lost.
    pub fn remove_partition(&self, topic: &str, partition: i32) {
        self.change(|now| {
            let partition = (topic.to_owned(), partition);
            now.partitions.remove(&partition);
            now.stranded.remove(&partition);
        });
    }

    /// Sets the stranded wakeups of a partition; none if all can be decided.
    pub fn set_stranded(&self, topic: &str, partition: i32, stranded: Option<StrandedWakeups>) {
        self.change(|now| {
            let partition = (topic.to_owned(), partition);
            match stranded {
                Some(stranded) => drop(now.stranded.insert(partition, stranded)),
                None => drop(now.stranded.remove(&partition)),
            }
        });
    }

    /// Sets the active version of a route.
    pub fn set_plugin(&self, plugin: RunningPlugin) {
        self.change(|now| {
            now.plugins.insert(plugin.route.clone(), plugin);
        });
    }

    /// Sets that a route has no active version.
    pub fn remove_plugin(&self, route: &str) {
        self.change(|now| {
            now.plugins.remove(route);
        });
    }

    /// Sets the last activations of a route, the current one first.
    pub fn set_history(&self, route: &str, past: Vec<PastActivation>) {
        self.change(|now| now.history.insert(route.to_owned(), past.into()));
    }

    /// Sets the state of a route's breaker.
    pub fn set_breaker(&self, breaker: RouteBreaker) {
        self.change(|now| now.breakers.insert(breaker.route.clone(), breaker));
    }

    /// Sets the versions of a route that were rolled back, the latest first.
    pub fn set_rolled_back(&self, route: &str, versions: Vec<RolledBackVersion>) {
        self.change(|now| now.rolled_back.insert(route.to_owned(), versions.into()));
    }

    /// Adds a refusal. If the same file is refused again for the same reason, only the time changes.
    pub fn refuse_plugin(&self, refused: RefusedPlugin) {
        self.change(|now| {
            now.refused.retain(|old| {
                (&old.route, &old.file, &old.digest, &old.reason)
                    != (
                        &refused.route,
                        &refused.file,
                        &refused.digest,
                        &refused.reason,
                    )
            });
            now.refused.push_front(refused);
            now.refused.truncate(REFUSED_MAX);
        });
    }

    /// Adds an impure version.
    pub fn set_impure(&self, plugin: ImpurePlugin) {
        self.change(|now| {
            now.impure.insert(plugin.digest.clone(), plugin);
        });
    }

    /// Sets or removes a problem that stops the host's work. True if that is a change.
    pub fn set_trouble(&self, what: &'static str, reason: Option<String>) -> bool {
        self.change(|now| match reason {
            Some(reason) => now.troubles.insert(what, reason.clone()) != Some(reason),
            None => now.troubles.remove(what).is_some(),
        })
    }

    /// Says that a background task failed and was started again.
    pub fn set_restarted(&self, task: &'static str, reason: &str) {
        self.change(|now| now.restarted.insert(task, reason.to_owned()));
    }

    /// Sets the number of unresolved dead letters of the group.
    pub fn set_dead_letters(&self, open: u64) {
        self.change(|now| now.dead_letters = Some(open));
    }

    /// Sets that the host is stopping: it is not ready any more.
    pub fn set_stopping(&self) {
        self.change(|now| now.stopping = true);
    }

    /// The current state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        // Each change is one assignment, so a panic elsewhere leaves no half-made change.
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}
