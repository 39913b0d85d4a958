//! The name of every metric and of every log field, each defined once.
//!
//! The first seven metrics have the names and labels of the system that taskhost replaces, so that its dashboards and alerts
//! keep working. The others begin with `taskhost_`. No label is a task id or a key.

/// Counter `{topic}`: records with a committed outcome, each counted once.
pub const CONSUMER_PROCESSED: &str = "kafka_consumer_messages_processed_total";
/// Counter `{topic}`: records that became dead letters.
pub const CONSUMER_FAILED: &str = "kafka_consumer_messages_failed_total";
/// Gauge `{topic, partition}`: records still to decide.
pub const CONSUMER_LAG: &str = "kafka_consumer_lag";
/// Gauge `{topic}`: a record's share of the seconds that its batch took, from decoding to commit; mean of the last minute.
pub const CONSUMER_DURATION: &str = "kafka_consumer_processing_duration_seconds";
/// Counter `{topic}`: messages in committed transactions.
pub const PRODUCER_SENT: &str = "kafka_producer_messages_sent_total";
/// Counter `{topic}`: deliveries that failed.
pub const PRODUCER_FAILED: &str = "kafka_producer_messages_failed_total";
/// Gauge `{topic}`: seconds from handing over a transaction's messages to the last acknowledgement, mean of the last minute.
pub const PRODUCER_DURATION: &str = "kafka_producer_send_duration_seconds";

/// Histogram: seconds that deciding one batch took.
pub const BATCH_DECIDE: &str = "taskhost_batch_decide_seconds";
/// Histogram: seconds that committing one batch to Postgres took.
pub const BATCH_COMMIT: &str = "taskhost_batch_commit_seconds";
/// Histogram: seconds that publishing one Kafka transaction took.
pub const BATCH_PUBLISH: &str = "taskhost_batch_publish_seconds";
/// Histogram: messages in one batch.
pub const BATCH_MESSAGES: &str = "taskhost_batch_messages";
/// Counter `{route, outcome}`: messages by outcome.
pub const OUTCOMES: &str = "taskhost_outcomes_total";
/// Counter `{plugin, kind}`: a plugin's own failures.
pub const PLUGIN_FAULTS: &str = "taskhost_plugin_faults_total";
/// Counter `{kind}`: batches that were decided again, because what they were decided on had changed.
pub const CONFLICTS: &str = "taskhost_conflicts_total";
/// Counter `{plugin}`: decisions that were made again to see whether they come out the same.
pub const PLUGIN_PURITY_CHECKED: &str = "taskhost_plugin_purity_checked_total";
/// Counter `{plugin}`: those of them with a different result.
pub const PLUGIN_IMPURE: &str = "taskhost_plugin_impure_total";
/// Counter `{route}`: plugin files that were refused.
pub const PLUGIN_REFUSED: &str = "taskhost_plugin_refused_total";
/// Counter: changes of the active version, over all routes.
pub const PLUGIN_SWAPS: &str = "taskhost_plugin_swaps_total";
/// Gauge `{route, name, version, digest}`: 1 for the active version.
pub const PLUGIN_INFO: &str = "taskhost_plugin_info";
/// Gauge `{topic, partition}`: 1 while the partition is halted.
pub const PARTITION_HALTED: &str = "taskhost_partition_halted";
/// Gauge `{topic, partition}`: messages that wait as deferred.
pub const DEFERRED_PENDING: &str = "taskhost_deferred_pending";
/// Gauge `{topic, partition}`: due wakeups that the host can't decide.
pub const STRANDED: &str = "taskhost_wakeups_stranded";
/// Gauge `{topic, partition}`: committed batches that are not yet in Kafka.
pub const OUTBOX_FRAMES: &str = "taskhost_outbox_frames";
/// Gauge `{breaker}`: 1 while `postgres` or `kafka` is away and partitions pause.
pub const BREAKER_OPEN: &str = "taskhost_breaker_open";

/// Gauge `{route, state}`: 1 for the current state of the route's breaker, `closed`, `open` or `half-open`; 0 for the others.
pub const ROUTE_BREAKER_STATE: &str = "taskhost_route_breaker_state";
/// Counter `{route}`: how often faults opened the route's breaker.
pub const ROUTE_BREAKER_TRIPS: &str = "taskhost_route_breaker_trips_total";
/// Counter `{route}`: versions that this host rolled back.
pub const PLUGIN_ROLLBACKS: &str = "taskhost_plugin_rollbacks_total";
/// Gauge `{topic, state}`: unresolved dead letters: open, replaying, waiting or parked.
pub const DEAD_LETTERS_OPEN: &str = "taskhost_dead_letters";
/// Counter `{topic, outcome}`: dead letters that were decided again, by outcome.
pub const REPLAYS: &str = "taskhost_dead_letter_replays_total";
/// Counter `{what}`: rows that the retention removed: `dead_letters`, `frames`, `wakeups`.
pub const RETENTION: &str = "taskhost_retention_removed_total";

/// Log field: the task's id.
pub const FIELD_TASK: &str = "task";
/// Log field: the message's real topic.
pub const FIELD_TOPIC: &str = "topic";
/// Log field: the message's partition.
pub const FIELD_PARTITION: &str = "partition";
/// Log field: the message's offset.
pub const FIELD_OFFSET: &str = "offset";
/// Log field: the plugin's name.
pub const FIELD_PLUGIN: &str = "plugin";
