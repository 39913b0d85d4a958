//! What every host does about dead letters beside deciding: it counts what is open, and removes what is done with, if no
//! other host is at it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::DeadLetters;
use crate::store::{Kept, Store};
use crate::telemetry::{Metrics, Status};

/// How often dead letters are counted at most.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Counting takes at most one part of so many of the time: with millions of dead letters it is done less often.
const COUNT_SHARE: u32 = 100;

/// Rows that one transaction of the retention removes: a fraction of a second.
const ROWS_MAX: u32 = 1000;

/// What it needs.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) group: String,
    pub(super) status: Status,
    pub(super) metrics: Arc<Metrics>,
    pub(super) settings: DeadLetters,
}

/// Counts what is open.
pub(super) async fn count(parts: Arc<Parts>) {
    loop {
        let began = Instant::now();
        match parts.store.open_dead_letters(&parts.group).await {
            Ok(counts) => {
                let number = |count: i64| u64::try_from(count).unwrap_or(0);
                let all = counts.iter().map(|open| number(open.count)).sum();
                parts.status.set_dead_letters(all);
                let each = counts
                    .iter()
                    .map(|open| (&*open.topic, open.state.name(), number(open.count)));
                parts.metrics.set_dead_letters(each);
            }
            Err(error) => tracing::debug!(%error, "dead letters are not counted"),
        }
        tokio::time::sleep(COUNT_EVERY.max(began.elapsed() * COUNT_SHARE)).await;
    }
}

/// Removes what is done with.
pub(super) async fn trim(parts: Arc<Parts>) {
    let kept = Kept {
        age_max: parts.settings.retention,
        count_max: parts.settings.keep_max.into(),
        rows_max: ROWS_MAX,
    };
    loop {
        tokio::time::sleep(parts.settings.retention_interval).await;
        loop {
            match parts.store.trim_leavings(&parts.group, &kept).await {
                Ok(Some(trimmed)) => {
                    parts.metrics.removed("dead_letters", trimmed.dead_letters);
                    parts.metrics.removed("frames", trimmed.frames);
                    parts.metrics.removed("wakeups", trimmed.wakeups);
                    if trimmed.is_full(&kept) {
                        continue;
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "nothing is removed now"),
            }
            break;
        }
    }
}
