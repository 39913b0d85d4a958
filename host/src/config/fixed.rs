//! What could be set once and is a constant now: nobody had a reason to turn it. Each number has its own.
//!
//! Who still sets one of them is told the value in force; the host starts all the same.

use std::time::Duration;

use super::problem::Origin;
use super::value::millis;

/// How far back a plugin's decisions count for its route's breaker. A minute has the 20 decisions that say something
/// (`breaker.minimum`) on all but the quietest topics, and forgets soon what a version did that is replaced.
pub const BREAKER_WINDOW: Duration = Duration::from_secs(60);

/// A route's breaker opens when so many of a hundred decisions within the window were faults. One bad message among good
/// ones never gets there, and a broken version does within its first decisions.
pub const BREAKER_PERCENT: u32 = 50;

/// Committed batches of one partition that may wait for Kafka before it decides no further. A batch is decided in
/// milliseconds and a transaction of Kafka's takes tens of them, so 64 never hold up a partition while Kafka answers;
/// while it doesn't, they bound the memory: each holds its outgoing messages.
pub const FRAMES_UNPUBLISHED_MAX: usize = 64;

/// The most bytes of outgoing messages in one Kafka transaction; a single larger batch is one of its own. Several batches
/// of the largest size (`batch.bytes_max` is 4 MiB) share a commit. More would make one that fails dearer, and it must be
/// sent within a third of `kafka.transaction_timeout`.
pub const TRANSACTION_BYTES_MAX: u64 = 16 << 20;

/// The most that a plugin may answer for one batch: four times the largest batch, as a decision repeats its task's data
/// in the row, in events and in messages.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The most lines that a plugin may log in one batch; the rest is counted. A person reads no more of them, and a plugin
/// that logs each message of a batch of 1,000 would fill a disk.
pub const LOG_LINES_MAX: usize = 100;

/// How long to wait for a connection to Postgres: as long as one statement may wait for a lock by default. Whoever waits
/// longer hides from the breaker that Postgres is away.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A setting that was taken away.
pub(super) struct Fixed {
    /// Its key in `taskhost.toml`.
    pub(super) key: &'static str,
    /// Its environment variable.
    pub(super) env: &'static str,
    /// The value in force, as it would have been written.
    value: fn() -> String,
}

/// All of them.
pub(super) const FIXED: [Fixed; 7] = [
    Fixed {
        key: "breaker.window",
        env: "TASKHOST_BREAKER_WINDOW",
        value: || millis(BREAKER_WINDOW).to_string(),
    },
    Fixed {
        key: "breaker.ratio",
        env: "TASKHOST_BREAKER_RATIO",
        value: || BREAKER_PERCENT.to_string(),
    },
    Fixed {
        key: "batch.frames_unpublished_max",
        env: "TASKHOST_BATCH_FRAMES_UNPUBLISHED_MAX",
        value: || FRAMES_UNPUBLISHED_MAX.to_string(),
    },
    Fixed {
        key: "batch.transaction_bytes_max",
        env: "TASKHOST_BATCH_TRANSACTION_BYTES_MAX",
        value: || TRANSACTION_BYTES_MAX.to_string(),
    },
    Fixed {
        key: "plugins.answer_bytes_max",
        env: "TASKHOST_PLUGINS_ANSWER_BYTES_MAX",
        value: || ANSWER_BYTES_MAX.to_string(),
    },
    Fixed {
        key: "plugins.log_lines_max",
        env: "TASKHOST_PLUGINS_LOG_LINES_MAX",
        value: || LOG_LINES_MAX.to_string(),
    },
    Fixed {
        key: "database.acquire_timeout",
        env: "TASKHOST_DATABASE_ACQUIRE_TIMEOUT",
        value: || millis(ACQUIRE_TIMEOUT).to_string(),
    },
];

impl Fixed {
    /// The one with this key or environment variable.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        FIXED
            .iter()
            .find(|fixed| fixed.key == name || fixed.env == name)
    }

    /// What whoever sets it is told.
    pub(super) fn warning(&self, origin: &Origin) -> String {
        let (key, value) = (self.key, (self.value)());
        format!(
            "{key} ({origin}) can't be set any more and has no effect: it is always {value}; remove it"
        )
    }
}
