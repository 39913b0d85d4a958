//! The largest record that each topic takes, so that a larger one is found before it is committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use taskhost_core::record::Record;

/// Bytes that a record batch adds around one record: its header and the record's own lengths, each a
/// variable-length number at its longest (<https://kafka.apache.org/documentation/#recordbatch>).
const RECORD_OVERHEAD: usize = 61 + 36;

/// Bytes that each header adds besides its name and value.
const HEADER_OVERHEAD: usize = 10;

/// The topics' `max.message.bytes`.
#[derive(Debug, Default)]
pub struct Limits {
    topics: RwLock<HashMap<String, usize>>,
}

impl Limits {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Updates the limits with the broker's answer, as [`super::Admin::limits`] reads it.
    pub fn update(&self, limits: HashMap<String, usize>) {
        self.topics
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(limits);
    }

    /// The largest record batch that a topic takes, if it is known.
    pub fn of(&self, topic: &str) -> Option<usize> {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(topic)
            .copied()
    }

    /// All known limits, by topic.
    pub fn all(&self) -> BTreeMap<String, usize> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics
            .iter()
            .map(|(topic, limit)| (topic.clone(), *limit))
            .collect()
    }

    /// The smallest limit of all.
    pub fn smallest(&self) -> Option<usize> {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .min()
            .copied()
    }

    /// The limit that a record exceeds by its uncompressed size. A record that fits only when compressed is refused, because
    /// its compressed size isn't known before it is sent.
    pub fn broken_by(&self, record: &Record) -> Option<usize> {
        self.of(&record.topic)
            .filter(|limit| size_on_the_wire(record) > *limit)
    }
}

/// Bytes of a batch with this record alone, at most.
fn size_on_the_wire(record: &Record) -> usize {
    record.size() + RECORD_OVERHEAD + HEADER_OVERHEAD * record.headers.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_beyond_its_own_topics_limit_is_refused() {
        let limits = Limits::new();
        limits.update(HashMap::from([
            ("small".to_owned(), 1000),
            ("large".to_owned(), 5000),
        ]));
        let record = |topic: &str, bytes| Record {
            topic: topic.to_owned(),
            key: None,
            value: Some(vec![0; bytes]),
            headers: Vec::new(),
            timestamp: None,
        };
        assert_eq!(limits.broken_by(&record("small", 1000)), Some(1000));
        assert_eq!(limits.broken_by(&record("small", 800)), None);
        assert_eq!(limits.broken_by(&record("large", 1000)), None);
        assert_eq!(limits.broken_by(&record("unknown", 100_000)), None);
    }
}
