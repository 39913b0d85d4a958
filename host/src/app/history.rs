//! Keeps the last activations in memory for the API, and puts them into the words that people are shown.

use std::time::Duration;

use taskhost_core::timestamp::to_rfc3339;

use crate::store::{self, Store};
use crate::telemetry::Status;
use crate::telemetry::health::{ActivationStart, PastActivation, RolledBackVersion};

/// How often it is read. Offsets come in from all hosts, whenever a partition has its first record under an activation.
const EVERY: Duration = Duration::from_secs(5);

/// Activations of a route that are kept: those of the last days. `taskhost plugin history` has all of them.
const LIMIT: u32 = 10;

/// Reads the history again and again.
pub(super) async fn watch(store: Store, status: Status) {
    let now = status.snapshot();
    loop {
        for route in &now.routes {
            if let Ok(all) = store.all_rolled_back(&route.name).await {
                let all = all.into_iter().map(shown_rolled_back).collect();
                status.set_rolled_back(&route.name, all);
            }
            let group = &now.group.id;
            match store.past_activations(group, &route.name, LIMIT).await {
                Ok(past) => status.set_history(&route.name, past.into_iter().map(shown).collect()),
                Err(error) => {
                    tracing::debug!(%error, "the plugins' history is not read anew");
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// A version that was rolled back, as people are shown it.
fn shown_rolled_back(one: store::RolledBack) -> RolledBackVersion {
    RolledBackVersion {
        digest: one.digest,
        activation: one.activation,
        since: to_rfc3339(one.since),
        by: one.by,
        reason: one.reason,
    }
}

/// An activation as people are shown it.
pub fn shown(past: store::PastActivation) -> PastActivation {
    let store::PastActivation {
        activation,
        name,
        version,
        starts,
    } = past;
    let start = |start: store::ActivationStart| ActivationStart {
        topic: start.partition.topic.to_string(),
        partition: start.partition.partition,
        offset: start.first_offset,
        at: to_rfc3339(start.since),
    };
    PastActivation {
        route: activation.route,
        activation: activation.number,
        name,
        version,
        digest: activation.digest,
        since: to_rfc3339(activation.since),
        by: activation.by,
        reason: activation.reason,
        probation: activation.probation,
        rollback_of: activation.rollback_of,
        starts: starts.into_iter().map(start).collect(),
    }
}
