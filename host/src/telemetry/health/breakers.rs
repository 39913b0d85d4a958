//! The state of the routes' breakers, for health and the API.

use serde::Serialize;

/// The breaker of a route on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteBreaker {
    /// The route's name.
    pub route: String,
    /// `closed`, `open` or `half-open`.
    pub state: &'static str,
    /// Whether a person holds it there.
    pub held: bool,
    /// The time of its last change (RFC 3339); none if it never changed.
    pub since: Option<String>,
    /// The reason of the change: `faults`, `probe`, `activation` or `person`.
    pub why: Option<&'static str>,
    /// The same in words.
    pub reason: String,
    /// The person who ordered it, if one did.
    pub by: Option<String>,
    /// When a single message is tried next (RFC 3339), if the breaker opened by itself.
    pub probe_at: Option<String>,
    /// Decisions in the window when faults last opened it.
    pub decided: u64,
    /// Of those, the faults.
    pub faults: u64,
    /// The activation that decided then.
    pub activation: i64,
}

impl RouteBreaker {
    /// One that never changed.
    #[must_use]
    pub fn closed(route: &str) -> Self {
        Self {
            route: route.to_owned(),
            state: "closed",
            held: false,
            since: None,
            why: None,
            reason: String::new(),
            by: None,
            probe_at: None,
            decided: 0,
            faults: 0,
            activation: 0,
        }
    }

    /// Whether messages are decided as they come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == "closed"
    }
}

/// A version that was rolled back because it failed on probation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolledBackVersion {
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// The activation that failed.
    pub activation: i64,
    /// Since when it is not activated again (RFC 3339).
    pub since: String,
    /// The host that rolled it back.
    pub by: String,
    /// Why.
    pub reason: String,
}
