//! Wakes waiting causes whose task changed, soon after the change is committed.
//!
//! A wake is a hint: the due time is the guarantee. Both sides look after their own commit, the one that
//! changed a task and the one that deferred a message, so that neither order of the two misses the other.
//! Other hosts are told by NOTIFY, from a statement of its own and never from a batch's transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taskhost_core::record::TopicPartition;
use taskhost_core::task::{Task, TaskId};
use tokio::sync::{Notify, mpsc};

use crate::clock::now;
use crate::ledger::{self, Ledger};
use crate::mutant::{self, Mutant};
use crate::store::Key;

/// How long changes are collected before the rows are touched: an imperceptible delay that makes one
/// statement of hundreds.
const COLLECT: Duration = Duration::from_millis(10);

/// Tasks of one statement.
const TASKS_MAX: usize = 1000;

/// Tasks that may wait to be looked after; beyond it hints are dropped, and due times do.
const QUEUE_MAX: usize = 100_000;

/// How often the rows are tried: a task that changed just before Postgres went away for a moment still wakes what waits for
/// it. After that the due times do.
const TRIES: u32 = 60;

/// The pause between two tries.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The workers' end.
#[derive(Debug, Clone)]
pub struct Waker {
    hints: mpsc::Sender<Hint>,
    partitions: Arc<Mutex<HashMap<TopicPartition, Arc<Notify>>>>,
}

/// Which tasks to look after.
#[derive(Debug)]
enum Hint {
    /// They changed.
    Changed(TaskId),
    /// What holds its causes may be gone.
    LookAt(TaskId),
    /// A cause waits for it, which saw this version of it; 0 if there was no task.
    Deferred(TaskId, i64),
}

impl Waker {
    /// Makes a waker and the future that serves it, which ends with its last handle.
    pub fn new(ledger: Arc<dyn Ledger>) -> (Self, impl Future<Output = ()> + Send) {
        let (hints, received) = mpsc::channel(QUEUE_MAX);
        let partitions = Arc::default();
        let waker = Self {
            hints,
            partitions: Arc::clone(&partitions),
        };
        (waker, serve(ledger, received, partitions))
    }

    /// A partition's own bell.
    pub fn register(&self, partition: &TopicPartition) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        lock(&self.partitions).insert(partition.clone(), bell.clone());
        bell
    }

    /// Takes a bell away, unless the partition already has another.
    pub fn forget(&self, partition: &TopicPartition, bell: &Arc<Notify>) {
        let mut partitions = lock(&self.partitions);
        if partitions
            .get(partition)
            .is_some_and(|known| Arc::ptr_eq(known, bell))
        {
            partitions.remove(partition);
        }
    }

    /// Rings a partition's bell, if this host has it.
    pub fn poke(&self, partition: &TopicPartition) {
        poke(&self.partitions, partition);
    }

    /// Tasks that a committed batch created or changed.
    pub fn changed<'a>(&self, tasks: impl Iterator<Item = &'a Task>) {
        for task in tasks {
            let _ = self.hints.try_send(Hint::Changed(task.id.clone()));
        }
    }

    /// Tasks whose first waiting cause may have to get its turn, in whichever partition.
    pub fn look_at<'a>(&self, tasks: impl Iterator<Item = &'a TaskId>) {
        for task in tasks {
            let _ = self.hints.try_send(Hint::LookAt(task.clone()));
        }
    }

    /// Tasks that a committed batch's causes wait for, with the version that they saw.
    pub fn deferred(&self, tasks: Vec<(TaskId, i64)>) {
        for (task, seen) in tasks {
            let _ = self.hints.try_send(Hint::Deferred(task, seen));
        }
    }
}

async fn serve(
    ledger: Arc<dyn Ledger>,
    mut hints: mpsc::Receiver<Hint>,
    partitions: Arc<Mutex<HashMap<TopicPartition, Arc<Notify>>>>,
) {
    let mut taken = Vec::new();
    while hints.recv_many(&mut taken, 1).await > 0 {
        tokio::time::sleep(COLLECT).await;
        while taken.len() < TASKS_MAX
            && let Ok(hint) = hints.try_recv()
        {
            taken.push(hint);
        }
        for _ in 0..TRIES {
            match wake(&*ledger, &taken).await {
                Ok(woken) => {
                    let owners = woken.iter();
                    owners.for_each(|key| poke(&partitions, &key.partition));
                    break;
                }
                Err(error) => tracing::debug!(%error, "waiting messages are not woken yet"),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        taken.clear();
    }
}

async fn wake(ledger: &dyn Ledger, hints: &[Hint]) -> ledger::Result<Vec<Key>> {
    if mutant::is_armed(Mutant::Wake) {
        return Ok(Vec::new());
    }
    let (mut changed, mut waited_for, mut look_at) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for hint in hints {
        match hint {
            Hint::Changed(task) => drop(changed.insert(task.clone())),
            Hint::LookAt(task) => drop(look_at.insert(task.clone())),
            Hint::Deferred(task, seen) => waited_for.push((task.clone(), *seen)),
        }
    }
    changed.extend(ledger.changed(&waited_for).await?);
    let tasks: Vec<TaskId> = changed.into_iter().collect();
    let mut woken = ledger.wake_tasks(&tasks, now()).await?;
    if !look_at.is_empty() {
        let tasks: Vec<TaskId> = look_at.into_iter().collect();
        woken.extend(ledger.settle_tasks(&tasks, now()).await?);
    }
    ledger.notify(&woken).await?;
    Ok(woken)
}

fn poke(partitions: &Mutex<HashMap<TopicPartition, Arc<Notify>>>, partition: &TopicPartition) {
    if let Some(bell) = lock(partitions).get(partition) {
        bell.notify_one();
    }
}

/// A map of bells stays whole whoever panics.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
