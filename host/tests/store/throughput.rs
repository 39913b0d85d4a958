//! How fast batches go, printed only: `cargo test --test store throughput -- --nocapture`.

use std::time::Instant;

use taskhost::store::{Epoch, Store};
use taskhost_core::batch::WriteSet;
use taskhost_core::task::TaskId;
use uuid::Uuid;

use crate::support::*;

const BATCH: i64 = 500;
const BATCHES: i64 = 40;
const PARTITIONS: i32 = 2;
/// Transitions after the creation.
const UPDATES: i64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput_of_batches_of_500() {
    let database = Database::migrated().await;
    let store = database.store();
    let mut epochs = Vec::new();
    for partition in 0..PARTITIONS {
        epochs.push(started(&store, &key(partition)).await);
    }
    for version in 1..=1 + UPDATES {
        let mut workers = tokio::task::JoinSet::new();
        for (partition, epoch) in (0..).zip(&epochs) {
            let (store, epoch) = (store.clone(), *epoch);
            let sets: Vec<WriteSet> = (0..BATCHES)
                .map(|round| set(partition, round, version))
                .collect();
            workers.spawn(async move {
                let began = Instant::now();
                for set in sets {
                    batch(&store, partition, epoch, &set).await;
                }
                began.elapsed()
            });
        }
        let slowest = workers.join_all().await.into_iter().max();
        let tasks = f64::from(PARTITIONS) * f64::from(u32::try_from(BATCH * BATCHES).unwrap());
        let rate = tasks / slowest.unwrap_or_default().as_secs_f64();
        let what = if version == 1 { "creations" } else { "updates" };
        println!("{PARTITIONS} partitions, batches of {BATCH}: {rate:.0} {what}/s");
    }
}

/// One transition of each task of a batch: an event with its cause, an outgoing record.
fn set(partition: i32, round: i64, version: i64) -> WriteSet {
    let namespace = Uuid::from_u128(partition.unsigned_abs().into());
    let mut set = WriteSet::default();
    for offset in 0..BATCH {
        let name = Uuid::new_v5(&namespace, &(round * BATCH + offset).to_be_bytes());
        let task = task(&name.to_string(), "started", version);
        set.events.push(event(&task, 0, offset));
        set.records.push(record(offset));
        set.counts.applied += 1;
        match version {
            1 => set.created.push(task),
            _ => set.updated.push(task),
        }
    }
    set.created.sort_by(|a, b| a.id.cmp(&b.id));
    set.updated.sort_by(|a, b| a.id.cmp(&b.id));
    set
}

async fn batch(store: &Store, partition: i32, epoch: Epoch, set: &WriteSet) {
    let mut batch = store.begin(&key(partition), epoch).await.unwrap();
    let tasks = set.created.iter().chain(&set.updated);
    let ids: Vec<TaskId> = tasks.map(|task| task.id.clone()).collect();
    let found = batch.lock_tasks(&ids).await.unwrap();
    assert_eq!(found.len(), set.updated.len());
    assert!(
        batch
            .check_activations(&[("task-status", 0)])
            .await
            .unwrap()
    );
    batch.write(set, NOW).await.unwrap();
    finish(batch, set).await;
}
