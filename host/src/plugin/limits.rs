//! The limits of a plugin by name, each default with its reason.

use std::time::Duration;

/// The limits of every plugin on this host. They size the pooling allocator, so they are set once for the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a component's file. The default is ten times the size of a large Rust plugin; components with an
    /// interpreter have 10 to 20 MB.
    pub component_bytes_max: usize,
    /// Bytes of linear memory of one instance, all its memories together.
    pub memory_bytes_max: usize,
    /// Elements of one table. Tables hold functions, so this bounds code, not data.
    pub table_elements_max: usize,
    /// Bytes of the guest's own stack.
    pub stack_bytes_max: usize,
    /// Instances alive at the same moment. A call beyond them waits its turn.
    pub instances_max: u32,
    /// How long instantiation and `configure` may take together.
    pub configure_deadline: Duration,
    /// How long `decide` may take for any question.
    pub decide_deadline: Duration,
    /// What each cause of a batch adds to [`decide_deadline`](Self::decide_deadline).
    pub decide_deadline_per_cause: Duration,
    /// The longest deadline of a batch, however many causes it has.
    pub decide_deadline_max: Duration,
    /// Bytes of an answer, counted as it is copied out: texts by their bytes, lists by the size of their
    /// elements on the host. Beyond it nothing more is copied.
    pub answer_bytes_max: usize,
    /// Log lines of one batch: those of the logging import, of stdout and of stderr together.
    pub log_lines_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes_max: 64 << 20,
            memory_bytes_max: 128 << 20,
            table_elements_max: 100_000,
            stack_bytes_max: 512 << 10,
            instances_max: 64,
            configure_deadline: Duration::from_secs(1),
            decide_deadline: Duration::from_secs(1),
            decide_deadline_per_cause: Duration::from_millis(5),
            // Below the 10 s after which Postgres ends a session that is idle in a transaction.
            decide_deadline_max: Duration::from_secs(8),
            answer_bytes_max: 16 << 20,
            log_lines_max: 200,
        }
    }
}

impl Limits {
    /// How long `decide` may take for a number of causes.
    pub fn deadline_for(&self, causes: usize) -> Duration {
        let causes = u32::try_from(causes).unwrap_or(u32::MAX);
        let allowed = self
            .decide_deadline_per_cause
            .saturating_mul(causes)
            .saturating_add(self.decide_deadline);
        allowed.min(self.decide_deadline_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gets_more_time_than_a_message_but_never_more_than_the_maximum() {
        let limits = Limits::default();
        assert_eq!(limits.deadline_for(1), Duration::from_millis(1_005));
        assert_eq!(limits.deadline_for(500), Duration::from_millis(3_500));
        assert_eq!(limits.deadline_for(usize::MAX), limits.decide_deadline_max);
    }
}
