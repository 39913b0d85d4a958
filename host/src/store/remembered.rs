//! The numbers of deciders that are known without asking Postgres.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskhost_core::task::RecordedDecider;

/// How many deciders are remembered. Each route has one, and another one after each swap.
const REMEMBERED_MAX: usize = 100;

/// The numbers that are known.
#[derive(Debug, Default)]
pub(super) struct Deciders(Mutex<Vec<(Arc<RecordedDecider>, i32)>>);

impl Deciders {
    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<RecordedDecider>, i32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn number(&self, decider: &RecordedDecider) -> Option<i32> {
        let known = self.lock();
        let found = known.iter().find(|(known, _)| **known == *decider)?;
        Some(found.1)
    }

    pub(super) fn remember(&self, decider: &Arc<RecordedDecider>, number: i32) {
        let mut known = self.lock();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.push((decider.clone(), number));
    }

    /// Forgets all numbers, so that Postgres is asked again.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }
}
