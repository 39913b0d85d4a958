//! The partitions that this host owns now, behind the lock between the revoke handler and all others.
//!
//! Every assignment of a partition gets a [`Tag`]. Every action for the partition (adding it to the assignment, publishing
//! its frames) first checks, under this lock, that the tag is still valid. The revoke handler drops tags under the same
//! lock, after it has asked the workers to finish. Nobody waits for anything else while holding the lock.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use taskhost_core::record::TopicPartition;
use tokio_util::sync::CancellationToken;

/// One assignment of a partition to this host. Another assignment of the same partition has another tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// The number, for logs.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// The owned partitions, by tag.
#[derive(Debug, Default)]
pub struct Ownership {
    held: Mutex<Held>,
    released: Condvar,
}

/// The owned partitions while nobody else changes them.
#[derive(Debug, Default)]
pub struct Held {
    partitions: BTreeMap<TopicPartition, Hold>,
    last: u64,
}

#[derive(Debug)]
struct Hold {
    tag: Tag,
    draining: CancellationToken,
    released: bool,
}

impl Ownership {
    /// Nothing is held.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the partition is still owned under that tag.
    pub fn holds(&self, partition: &TopicPartition, tag: Tag) -> bool {
        self.lock().holds(partition, tag)
    }

    /// The partitions that are no longer owned under their tag, all checked under one lock.
    pub fn lost<'a>(
        &self,
        claims: impl IntoIterator<Item = (&'a TopicPartition, Tag)>,
    ) -> Vec<&'a TopicPartition> {
        let held = self.lock();
        claims
            .into_iter()
            .filter(|(partition, tag)| !held.holds(partition, *tag))
            .map(|(name, _)| name)
            .collect()
    }

    /// The owned partitions, for health.
    pub fn held(&self) -> Vec<TopicPartition> {
        self.lock().partitions.keys().cloned().collect()
    }

    /// A worker has no open batch any more for a draining partition: the revoke handler doesn't have to wait.
    pub fn released(&self, partition: &TopicPartition, tag: Tag) {
        if let Some(hold) = self.lock().partitions.get_mut(partition)
            && hold.tag == tag
        {
            hold.released = true;
            self.released.notify_all();
        }
    }

    /// A new tag for a partition that was just assigned, and the token that is cancelled when the worker has to finish.
    pub fn assign(&self, partition: &TopicPartition) -> (Tag, CancellationToken) {
        let mut held = self.lock();
        held.drop_tag(partition);
        held.last += 1;
        let (tag, draining) = (Tag(held.last), CancellationToken::new());
        held.partitions.insert(
            partition.clone(),
            Hold {
                tag,
                draining: draining.clone(),
                released: false,
            },
        );
        (tag, draining)
    }

    /// Asks the partitions' workers to finish.
    pub fn drain(&self, partitions: &[TopicPartition]) {
        let held = self.lock();
        partitions
            .iter()
            .filter_map(|name| held.partitions.get(name))
            .for_each(|hold| hold.draining.cancel());
    }

    /// Waits until all of the partitions are released, or the time is up. True if they are.
    pub fn wait_released(&self, partitions: &[TopicPartition], patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut held = self.lock();
        while partitions
            .iter()
            .any(|name| held.partitions.get(name).is_some_and(|hold| !hold.released))
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            held = self
                .released
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// The revoke lock. A thread that panicked while holding it leaves a consistent map: every change is one step.
    pub fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Whether the partition is still owned under that tag.
    pub fn holds(&self, partition: &TopicPartition, tag: Tag) -> bool {
        self.partitions
            .get(partition)
            .is_some_and(|hold| hold.tag == tag)
    }

    /// Drops a partition's tag. From here on nothing more is published or added for it.
    pub fn drop_tag(&mut self, partition: &TopicPartition) -> Option<Tag> {
        let hold = self.partitions.remove(partition)?;
        hold.draining.cancel();
        Some(hold.tag)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("t", number)
    }

    #[test]
    fn a_partition_that_comes_back_does_not_hold_its_former_tag() {
        let ownership = Ownership::new();
        let (first, draining) = ownership.assign(&partition(0));
        assert_eq!(ownership.lock().drop_tag(&partition(0)), Some(first));
        assert!(draining.is_cancelled());
        let (second, _) = ownership.assign(&partition(0));
        assert!(!ownership.holds(&partition(0), first));
        assert!(ownership.holds(&partition(0), second));
    }

    #[test]
    fn several_are_looked_at_together() {
        let ownership = Ownership::new();
        let (zero, _) = ownership.assign(&partition(0));
        let (one, _) = ownership.assign(&partition(1));
        ownership.lock().drop_tag(&partition(1));
        assert_eq!(
            ownership.lost([(&partition(0), zero), (&partition(1), one)]),
            [&partition(1)]
        );
    }

    #[test]
    fn the_revoke_handler_waits_for_workers_but_not_for_ever() {
        let ownership = Arc::new(Ownership::new());
        let (tag, draining) = ownership.assign(&partition(0));
        ownership.drain(&[partition(0)]);
        assert!(draining.is_cancelled());
        assert!(!ownership.wait_released(&[partition(0)], Duration::from_millis(5)));
        let worker = Arc::clone(&ownership);
        let thread = std::thread::spawn(move || worker.released(&partition(0), tag));
        assert!(ownership.wait_released(&[partition(0)], Duration::from_secs(10)));
        thread.join().expect("the worker ends");
    }
}
