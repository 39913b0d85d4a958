//! The activations, which decide what runs, and the bytes of every version.
//!
//! The store implements [`Versions`] on Postgres, [`InMemory`](super::in_memory::InMemory) in memory.

use std::sync::Arc;

use futures::future::BoxFuture;

/// The act that made one version the current one of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// The route's name.
    pub route: String,
    /// Its number within the route, from 1 without gaps.
    pub number: i64,
    /// SHA-256 of the component's bytes, 64 hexadecimal digits.
    pub digest: String,
    /// The configuration that goes with it: JSON text.
    pub config: Arc<str>,
    /// When it was committed, in milliseconds since 1970.
    pub since: i64,
    /// Who did it: a host, or a person through a command.
    pub by: String,
    /// What for.
    pub reason: String,
    /// Whether it is on probation: the previous version replaces it if it soon trips the route's breaker.
    pub probation: bool,
    /// The activation that tripped the breaker, if this one is its rollback.
    pub rollback_of: Option<i64>,
}

/// The kind of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationKind {
    /// A new version, or a previous one that a person chose. It is on probation if there is a previous version.
    Ordinary,
    /// A version that was rolled back, and that a person forces: without probation, and the rollback is forgotten.
    Forced,
    /// The rollback of the current activation, which tripped the breaker. Its version is not activated again.
    Rollback,
}

/// The record that a version tripped its route's breaker on probation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// SHA-256 of its bytes.
    pub digest: String,
    /// The activation that tripped.
    pub activation: i64,
    /// When it was rolled back, in milliseconds since 1970.
    pub since: i64,
    /// The host that rolled it back.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What to activate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewActivation {
    /// The route's name.
    pub route: String,
    /// The number of the activation that was current when this was decided on; 0 if there was none.
    pub seen: i64,
    /// SHA-256 of the component's bytes.
    pub digest: String,
    /// The configuration that goes with it: JSON text.
    pub config: Arc<str>,
    /// Who does it.
    pub by: String,
    /// What for.
    pub reason: String,
    /// What it is.
    pub kind: ActivationKind,
}

/// The result of a compare-and-set on the activations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activated {
    /// It is the current one now.
    Done(Activation),
    /// Another activation was first; this is the current one. None if the route has none any more.
    Lost(Option<Activation>),
}

/// A version's bytes, name and version number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedVersion {
    /// SHA-256 of the bytes.
    pub digest: String,
    /// Its name, from its descriptor.
    pub name: String,
    /// Its semantic version, from its descriptor.
    pub version: String,
    /// The component.
    pub bytes: Arc<[u8]>,
}

/// The versions can't be read or written now: infrastructure, worth trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plugin versions can't be read or written: {reason}")]
pub struct VersionsError {
    /// The text of their store.
    pub reason: String,
}

/// The answer to a question about versions.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, VersionsError>>;

/// Activations and versions, shared by all hosts of a group.
pub trait Versions: Send + Sync {
    /// The current activation of a route.
    fn current<'a>(&'a self, route: &'a str) -> Answer<'a, Option<Activation>>;

    /// Whether this pair of version and configuration was current on the route before, and is not now.
    fn is_superseded<'a>(
        &'a self,
        route: &'a str,
        digest: &'a str,
        config: &'a str,
    ) -> Answer<'a, bool>;

    /// Whether this version was rolled back on the route, with this configuration or with any.
    fn rolled_back<'a>(
        &'a self,
        route: &'a str,
        digest: &'a str,
        config: &'a str,
    ) -> Answer<'a, Option<RolledBack>>;

    /// The version before an activation: the latest one that differs from it and was not rolled back itself.
    fn before<'a>(&'a self, route: &'a str, number: i64) -> Answer<'a, Option<Activation>>;

    /// Stores a version. An already stored one stays unchanged, unless its bytes are damaged.
    fn save(&self, version: SavedVersion) -> Answer<'_, ()>;

    /// The bytes of a version.
    fn bytes<'a>(&'a self, digest: &'a str) -> Answer<'a, Option<Arc<[u8]>>>;

    /// Makes a version the current one of a route, if the expected activation is still current.
    fn activate(&self, new: NewActivation) -> Answer<'_, Activated>;
}
