//! Looks after the host's rights: they may be granted later, and taken away while it runs.

use std::time::Duration;

use crate::kafka::{Admin, GRANT_IT, MissingRight, Needs, Operation, Resource};
use crate::telemetry::Status;

/// How often the broker is asked: two small requests.
const EVERY: Duration = Duration::from_secs(5);

/// The rights without which nothing can be consumed. One to send to a topic costs the partitions that need it, and no
/// other.
pub(super) fn essential(missing: &[MissingRight]) -> Vec<MissingRight> {
    let topic = |right: &&MissingRight| matches!(right.resource, Resource::Topic(_));
    missing
        .iter()
        .filter(|right| !(topic(right) && right.operation == Operation::Write))
        .cloned()
        .collect()
}

/// What to tell of missing rights.
pub(super) fn told(missing: &[MissingRight]) -> String {
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    format!("{}; {GRANT_IT}", missing.join(", "))
}

/// Tells health and log which rights are missing, again and again.
pub(super) async fn watch(admin: Admin, needs: Needs, status: Status) {
    let mut known = Vec::new();
    loop {
        // Who doesn't answer is looked after elsewhere.
        if let Ok(missing) = admin.missing_rights(&needs).await {
            let essential = essential(&missing);
            let trouble = (!essential.is_empty()).then(|| told(&essential));
            status.set_trouble("rights", trouble);
            if missing != known {
                say(&missing);
                known = missing;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn say(missing: &[MissingRight]) {
    if missing.is_empty() {
        tracing::info!("no right is missing any more");
        return;
    }
    let essential = essential(missing);
    if !essential.is_empty() {
        tracing::error!("rights are missing: {}", told(&essential));
    }
    for right in missing.iter().filter(|right| !essential.contains(right)) {
        tracing::warn!(
            "{right}: a partition that has to send there halts; grant it to this host's user \
             (docs/kafka-security.md has the commands)"
        );
    }
}
