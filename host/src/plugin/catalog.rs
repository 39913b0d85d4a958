//! The active version of each route: a pointer that the next batch reads.
//!
//! The activation in [`Versions`] is authoritative, and the pointer follows it. A worker compares the two inside the
//! transaction of its batch. So a pointer that lags costs a second try, never a wrong decision. If the active version
//! can't be loaded here, the pointer keeps the previous one. The worker can't commit then, and the partition waits.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use serde::Serialize;
use sha2::{Digest, Sha256};
use taskhost_core::cause::Route;
use taskhost_core::decision::Decision;
use taskhost_core::descriptor::Descriptor;
use taskhost_core::record::TopicPartition;
use taskhost_core::round::{Unanswered, Work};
use taskhost_core::task::PluginVersion;
use taskhost_core::timestamp;
use time::OffsetDateTime;

use super::component::Component;
use super::library::Library;
use super::observer::PluginObserver;
use super::question::Question;
use super::refused::{Refusal, Refused};
use super::versions::{Activation, Versions, VersionsError};
use super::world::INTERFACE;
use crate::clock::now;
use crate::deciders::{Current, Deciders, Rule};

/// Refusals that are remembered for each route.
const REFUSALS_MAX: usize = 20;

/// A route, the plugin file that it names, and the plugin's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRoute {
    /// The route.
    pub route: Route,
    /// The plugin's file without directory and `.wasm`.
    pub plugin: String,
    /// The plugin's configuration: JSON text, `{}` if there is none.
    pub config: Arc<str>,
}

/// How long before the end of a probation held messages are decided once more.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// The active version of a route.
#[derive(Debug)]
pub struct Active {
    /// The activation's number.
    pub number: i64,
    /// Name, version and digest, as recorded in each task event.
    pub version: Arc<PluginVersion>,
    /// Its description under its configuration.
    pub descriptor: Arc<Descriptor>,
    /// The compiled plugin.
    pub component: Arc<Component>,
    /// Its configuration: JSON text.
    pub config: Arc<str>,
    /// When it was activated, in milliseconds since 1970.
    pub since: i64,
    /// The end of its probation, in milliseconds since 1970; 0 if it has none.
    pub probation_until: i64,
    logical_topic: Arc<str>,
}

impl Active {
    /// Whether it is on probation at this time, in milliseconds since 1970: then the previous version takes over if it
    /// faults too often.
    #[must_use]
    pub fn is_on_probation(&self, now: i64) -> bool {
        now < self.probation_until
    }

    /// How long messages on which it faults are held; none if it isn't on probation. At first until shortly before the
    /// probation ends. All held messages are then decided together: if they open the breaker, the previous version still
    /// takes over, even if they came slowly. After that, messages are held until the end.
    #[must_use]
    pub fn hold(&self, now: i64) -> Option<Duration> {
        let rest = self.probation_until.saturating_sub(now);
        let rest = Duration::from_millis(u64::try_from(rest).ok().filter(|rest| *rest > 0)?);
        match rest > 2 * LAST_LOOK {
            true => Some(rest - LAST_LOOK),
            false => Some(rest),
        }
    }

    fn question<'a>(&'a self, works: &'a [Work<'a>], at: &'a TopicPartition) -> Question<'a> {
        Question {
            config: &self.config,
            logical_topic: &self.logical_topic,
            at,
            works,
        }
    }
}

/// In a fresh instance.
impl Rule for Active {
    fn decide(
        &self,
        works: &[Work<'_>],
        at: &TopicPartition,
        again: bool,
    ) -> Result<Vec<Vec<Decision>>, Unanswered> {
        let question = self.question(works, at);
        match again {
            true => self.component.decide_again(&question),
            false => self.component.decide(&question),
        }
    }
}

#[async_trait]
impl Deciders for Catalog {
    fn current(&self, route: usize) -> Option<Current> {
        let active = self.current(route)?;
        Some(Current {
            number: active.number,
            version: active.version.clone(),
            descriptor: active.descriptor.clone(),
            config: active.config.clone(),
            interface: INTERFACE,
            hold: active.hold(now()),
            rule: active,
        })
    }

    async fn refresh(&self, route: usize) -> Result<(), String> {
        let refreshed = self.refresh(route).await;
        refreshed.map(drop).map_err(|error| error.to_string())
    }
}

/// A route's versions, for people: `GET /api/plugins`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSnapshot {
    /// The route's name.
    pub route: String,
    /// The topic's name on the broker.
    pub topic: String,
    /// The plugin file that the route names.
    pub plugin: String,
    /// The active version; none if nothing was ever activated.
    #[serde(flatten)]
    pub active: Option<ActiveSnapshot>,
    /// The refusals, latest last.
    pub refused: Vec<Refusal>,
}

/// The active version of a route, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveSnapshot {
    /// The plugin's name.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// SHA-256 of its bytes.
    pub digest: String,
    /// The activation's number.
    pub activation: i64,
    /// When it was activated (RFC 3339).
    pub since: String,
    /// SHA-256 of its configuration. The configuration itself may be confidential.
    pub config_digest: String,
}

/// Why a call of the catalog failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The version can't be active on this route and host.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Infrastructure: worth trying again.
    #[error(transparent)]
    Versions(#[from] VersionsError),
    /// No such version is known.
    #[error("no version with the digest {digest} is stored")]
    Unknown {
        /// The version's digest.
        digest: String,
    },
    /// The bytes stored under a digest have another digest.
    #[error(
        "the stored bytes of version {digest} are damaged: their digest is {found}; activate the version again from its \
         file, on a host that has it"
    )]
    Damaged {
        /// The version's digest.
        digest: String,
        /// The digest of the bytes.
        found: String,
    },
}

/// The routes and their active versions.
pub struct Catalog {
    pub(super) library: Arc<Library>,
    pub(super) versions: Arc<dyn Versions>,
    pub(super) slots: Vec<Slot>,
    /// A hint that an activation may have changed.
    pub(super) hinted: tokio::sync::Notify,
    topics: HashSet<String>,
    /// How long a version that replaced another one is on probation.
    probation: Duration,
}

/// One route.
pub(super) struct Slot {
    pub(super) settings: PluginRoute,
    pub(super) active: ArcSwapOption<Active>,
    /// Locked while the activation is read and the pointer follows it, so that an older activation never replaces a
    /// newer one.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Why the current activation can't be followed, if it can't.
    pub(super) behind: Mutex<Option<CatalogError>>,
    refusals: Mutex<VecDeque<Refusal>>,
}

impl Catalog {
    /// A catalog without active versions. `topics` are the logical topics that the host can send to.
    pub fn new(
        library: Library,
        versions: Arc<dyn Versions>,
        routes: Vec<PluginRoute>,
        topics: HashSet<String>,
    ) -> Self {
        let slot = |settings| Slot {
            settings,
            active: ArcSwapOption::empty(),
            turn: tokio::sync::Mutex::default(),
            behind: Mutex::default(),
            refusals: Mutex::default(),
        };
        Self {
            library: Arc::new(library),
            versions,
            slots: routes.into_iter().map(slot).collect(),
            hinted: tokio::sync::Notify::new(),
            topics,
            probation: Duration::ZERO,
        }
    }

    /// Sets the probation of versions that replace others, from their activation on.
    #[must_use]
    pub fn with_probation(mut self, probation: Duration) -> Self {
        self.probation = probation;
        self
    }

    /// The number of a route by its name.
    pub fn number_of(&self, name: &str) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.settings.route.name == name)
    }

    /// The routes, in the order of their numbers.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &PluginRoute> {
        self.slots.iter().map(|slot| &slot.settings)
    }

    /// Compiled components.
    pub fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// The active version of a route, by the route's number.
    pub fn current(&self, route: usize) -> Option<Arc<Active>> {
        self.slots.get(route)?.active.load_full()
    }

    /// Configures a component for a route and checks that it fits.
    pub(super) async fn describe(
        &self,
        route: usize,
        component: Arc<Component>,
        config: Arc<str>,
    ) -> Result<Descriptor, Refused> {
        let descriptor = blocking(move || component.describe(&config)).await?;
        let logical = &self.slots[route].settings.route.logical_topic;
        if !descriptor.consumes.contains(logical) {
            let consumed = descriptor.consumes.join("`, `");
            let reason = format!("the route's topic is `{logical}`, and it consumes `{consumed}`");
            return Err(Refused::Route { reason });
        }
        let unmapped: Vec<_> = descriptor
            .produces
            .iter()
            .filter(|topic| !self.topics.contains(*topic))
            .map(String::as_str)
            .collect();
        if !unmapped.is_empty() {
            let reason = format!(
                "it produces to `{}`, and the configuration maps no topic to that name",
                unmapped.join("`, `")
            );
            return Err(Refused::Route { reason });
        }
        Ok(descriptor)
    }

    /// Makes a version the active one from the next batch on. The caller holds the slot's lock.
    pub(super) fn swap(
        &self,
        slot: &Slot,
        activation: &Activation,
        component: Arc<Component>,
        descriptor: Descriptor,
    ) -> Arc<Active> {
        let version = PluginVersion {
            name: descriptor.name.clone(),
            version: descriptor.version.clone(),
            digest: activation.digest.clone(),
        };
        let route = &slot.settings.route;
        tracing::info!(
            route = route.name,
            plugin = version.name,
            version = version.version,
            digest = version.digest,
            activation = activation.number,
            by = activation.by,
            reason = activation.reason,
            "a plugin version is active now"
        );
        let probation = i64::try_from(self.probation.as_millis()).unwrap_or(i64::MAX);
        let active = Arc::new(Active {
            number: activation.number,
            version: Arc::new(version),
            descriptor: Arc::new(descriptor),
            component,
            config: activation.config.clone(),
            since: activation.since,
            probation_until: match activation.probation {
                true => activation.since.saturating_add(probation),
                false => 0,
            },
            logical_topic: route.logical_topic.as_str().into(),
        });
        // Before the observer is told: it may ask for the new version at once.
        slot.active.store(Some(active.clone()));
        self.observer()
            .swapped(&route.name, &active.version, active.number);
        active
    }

    /// Remembers, logs and reports that something was refused for a route.
    pub fn record_refusal(
        &self,
        route: usize,
        file: &str,
        digest: Option<String>,
        refused: &impl ToString,
    ) {
        let Some(slot) = self.slots.get(route) else {
            return;
        };
        let reason = taskhost_core::decision::clean(&refused.to_string());
        let refusal = Refusal {
            file: file.to_owned(),
            digest,
            reason,
            at: OffsetDateTime::now_utc(),
        };
        let name = &slot.settings.route.name;
        tracing::warn!(
            route = name,
            file,
            digest = refusal.digest.as_deref().unwrap_or(""),
            reason = refusal.reason,
            "a plugin is refused; the current version stays active"
        );
        self.observer().refused(name, &refusal);
        let mut refusals = slot.refusals();
        refusals.retain(|one| {
            (&one.file, &one.digest, &one.reason)
                != (&refusal.file, &refusal.digest, &refusal.reason)
        });
        if refusals.len() == REFUSALS_MAX {
            refusals.pop_front();
        }
        refusals.push_back(refusal);
    }

    /// The refusals of a route, latest last.
    pub fn refusals(&self, route: usize) -> Vec<Refusal> {
        self.slots
            .get(route)
            .map(|slot| slot.refusals().iter().cloned().collect())
            .unwrap_or_default()
    }

    /// The versions of every route, for people.
    pub fn snapshot(&self) -> Vec<RouteSnapshot> {
        self.slots.iter().map(Slot::snapshot).collect()
    }

    fn observer(&self) -> &dyn PluginObserver {
        self.library.engine().observer()
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog")
            .field("routes", &self.snapshot())
            .finish_non_exhaustive()
    }
}

impl Active {
    /// Whether it matches an activation.
    pub(super) fn is(&self, activation: &Activation) -> bool {
        self.number == activation.number
            && self.version.digest == activation.digest
            && self.config == activation.config
    }

    fn snapshot(&self) -> ActiveSnapshot {
        let PluginVersion {
            name,
            version,
            digest,
        } = (*self.version).clone();
        ActiveSnapshot {
            name,
            version,
            digest,
            activation: self.number,
            since: timestamp::to_rfc3339(self.since),
            config_digest: hex::encode(Sha256::digest(self.config.as_bytes())),
        }
    }
}

impl Slot {
    fn refusals(&self) -> MutexGuard<'_, VecDeque<Refusal>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> RouteSnapshot {
        RouteSnapshot {
            route: self.settings.route.name.clone(),
            topic: self.settings.route.topic.clone(),
            plugin: self.settings.plugin.clone(),
            active: self.active.load().as_deref().map(Active::snapshot),
            refused: self.refusals().iter().cloned().collect(),
        }
    }
}

/// Runs a blocking step (compiling or running a guest) on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Refused::Machine {
                reason: format!("its thread ended: {error}"),
            })
        })
}
