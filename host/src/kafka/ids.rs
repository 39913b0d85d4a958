//! Transactional ids: which producer of which process, so that whoever takes a partition over can end
//! what its former owners left open.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

/// The ids of this process: `<prefix>-<uuid of this process>-<n>`, n from 0.
#[derive(Debug)]
pub struct TransactionalIds {
    stem: String,
    next: AtomicU32,
}

impl TransactionalIds {
    /// Ids that begin with a prefix.
    pub fn new(prefix: &str) -> Self {
        static PROCESS: OnceLock<Uuid> = OnceLock::new();
        Self {
            stem: format!("{prefix}-{}-", PROCESS.get_or_init(Uuid::new_v4)),
            next: AtomicU32::new(0),
        }
    }

    /// Another id; never the same one twice.
    pub fn next(&self) -> String {
        format!("{}{}", self.stem, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether an id is one of this process.
    pub fn is_own(&self, id: &str) -> bool {
        id.starts_with(&self.stem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbered_and_known_as_own() {
        let ids = TransactionalIds::new("taskhost-g");
        let (first, second) = (ids.next(), ids.next());
        assert!(
            first.starts_with("taskhost-g-") && first.ends_with("-0") && second.ends_with("-1")
        );
        assert!(ids.is_own(&first));
        assert!(!ids.is_own("taskhost-g-6e7c0a30-0000-4000-8000-000000000000-0"));
    }
}
