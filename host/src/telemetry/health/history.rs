//! The last activations of the routes, and the records at which they took effect, for the API and the command line.

use serde::Serialize;

/// An activation of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PastActivation {
    /// The route's name.
    pub route: String,
    /// Its number within the route.
    pub activation: i64,
    /// The plugin's own name for itself.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// When it was activated (RFC 3339).
    pub since: String,
    /// Who activated it: a host, or a person by a command.
    pub by: String,
    /// Why: a file that changed, a command.
    pub reason: String,
    /// Whether it is on probation: the previous version takes over if this one soon opens its route's breaker.
    pub probation: bool,
    /// The activation that this one rolled back, because it failed on probation.
    pub rollback_of: Option<i64>,
    /// The partitions that decided under it, in order.
    pub starts: Vec<ActivationStart>,
}

/// Where an activation took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivationStart {
    /// The topic's name on the broker.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The first record of the route that was decided under it.
    pub offset: i64,
    /// When its batch began (RFC 3339).
    pub at: String,
}
