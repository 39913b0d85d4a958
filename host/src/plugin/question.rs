//! What a plugin is asked.

use taskhost_core::record::TopicPartition;
use taskhost_core::round::Work;

/// What one call of `decide` is about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The route's configuration: JSON.
    pub config: &'a str,
    /// The logical name of the topic, which the plugin knows.
    pub logical_topic: &'a str,
    /// The batch's partition, for log lines.
    pub at: &'a TopicPartition,
    /// The works.
    pub works: &'a [Work<'a>],
}
