//! What runs beside the messages, by name, and what happens without it.
//!
//! A name is part of the log line and of health, so it stays.

use super::Duty;

/// The HTTP API.
pub(crate) const HTTP: Duty = Duty {
    name: "http",
    without: "nobody can ask this host how it is, or give it orders",
};

/// Waking what waits for a task that changed.
pub(crate) const WAKER: Duty = Duty {
    name: "waker",
    without: "messages that wait for a task are decided at their due time only",
};

/// Rolling back versions on probation.
pub(crate) const ROLLBACKS: Duty = Duty {
    name: "rollbacks",
    without: "a version that fails on probation is not rolled back",
};

/// Making what is held due after a swap.
pub(crate) const HELD: Duty = Duty {
    name: "held-messages",
    without: "messages that are held after a rollback are decided at their due time only",
};

/// Carrying out people's orders to breakers.
pub(crate) const ORDERS: Duty = Duty {
    name: "breaker-orders",
    without: "orders to the breakers of routes are not carried out",
};

/// Listening to other hosts.
pub(crate) const HINTS: Duty = Duty {
    name: "hints",
    without: "what other hosts and commands changed is noticed later",
};

/// Probing Kafka and Postgres.
pub(crate) const PROBES: Duty = Duty {
    name: "probes",
    without: "a breaker of Kafka or Postgres that is open stays open",
};

/// Asking how the group is.
pub(crate) const GROUP: Duty = Duty {
    name: "group",
    without: "health shows an old state of the group",
};

/// Counting dead letters.
pub(crate) const COUNTING: Duty = Duty {
    name: "dead-letter-counts",
    without: "health and metrics show an old number of dead letters",
};

/// Removing what is done with.
pub(crate) const RETENTION: Duty = Duty {
    name: "retention",
    without: "dead letters and frames that are done with are not removed",
};

/// Making the history's partitions ahead.
pub(crate) const PARTITIONS: Duty = Duty {
    name: "history-partitions",
    without: "the history's partitions are not made ahead, and where one is missing nothing is committed",
};

/// Reading past activations.
pub(crate) const HISTORY: Duty = Duty {
    name: "plugin-history",
    without: "the API shows old activations",
};

/// Looking after the rights.
pub(crate) const RIGHTS: Duty = Duty {
    name: "rights",
    without: "health shows old rights",
};

/// Telling the lag.
pub(crate) const LAG: Duty = Duty {
    name: "lag",
    without: "the metric of the lag is old",
};

/// Watching the plugins' directory.
pub(crate) const DIRECTORY: Duty = Duty {
    name: "plugin-directory",
    without: "a new plugin file is not noticed",
};

/// Asking what is active.
pub(crate) const ACTIVATIONS: Duty = Duty {
    name: "activations",
    without: "a version that was activated elsewhere is taken over by the batch that notices",
};

/// Sending events of the life cycle.
pub(crate) const LIFE_CYCLE: Duty = Duty {
    name: "life-cycle",
    without: "nothing is written to the topic of the hosts' life cycle",
};
