//! Readiness: whether the host can work, and otherwise what is missing.

use serde::Serialize;

use super::status::{DependencyState, Snapshot};

/// One thing that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What: a dependency, `rights`, `group`, `publisher`, `background`, `plugin <route>` or `host`.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// All that is missing; empty for a host that is ready.
///
/// A halted partition doesn't count: the others go on, and it would help nobody to take the host out of service. An empty
/// assignment doesn't count either: a host may be a spare.
#[must_use]
pub fn missing(now: &Snapshot) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut add = |what: &str, reason: &str| {
        missing.push(Missing {
            what: what.to_owned(),
            reason: reason.to_owned(),
        });
    };
    if now.stopping {
        add("host", "it is stopping");
    }
    for (dependency, state) in &now.dependencies {
        if let DependencyState::Down { reason } = state {
            add(dependency.health_name(), reason);
        }
    }
    for (what, reason) in &now.troubles {
        add(what, reason);
    }
    if !now.group.joined && !now.troubles.contains_key("group") {
        add("group", "this host has not joined it");
    }
    for route in now
        .routes
        .iter()
        .filter(|route| !now.plugins.contains_key(&route.name))
    {
        let refused = now
            .refused
            .iter()
            .find(|refused| refused.route == route.name);
        let reason = refused.map_or("no version is active", |refused| &refused.reason);
        add(&format!("plugin {}", route.name), reason);
    }
    missing
}
