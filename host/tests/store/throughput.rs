//! How fast batches go, printed only: `cargo test --test store throughput -- --nocapture`.

use std::time::{Duration, Instant};

use taskhost::store::{Epoch, Store};
use taskhost_core::batch::WriteSet;
use taskhost_core::task::{Task, TaskId};
use uuid::Uuid;

use crate::support::*;

const BATCH: i64 = 500;
const BATCHES: i64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput_of_batches_of_500() {
    let database = Database::migrated().await;
    let store = database.store();
    let mut workers = tokio::task::JoinSet::new();
    for partition in 0..2 {
        let store = store.clone();
        workers.spawn(async move {
            let epoch = started(&store, &key(partition)).await;
            let created = creations(&store, partition, epoch).await;
            let updated = updates(&store, partition, epoch).await;
            (created, updated)
        });
    }
    let times = workers.join_all().await;
    let rate = |time: Duration| 2.0 * f64::from(20_000_i32) / time.as_secs_f64();
    let slowest = |times: &mut dyn Iterator<Item = Duration>| times.max().unwrap_or_default();
    let created = rate(slowest(&mut times.iter().map(|time| time.0)));
    let updated = rate(slowest(&mut times.iter().map(|time| time.1)));
    println!(
        "two partitions, batches of {BATCH}: {created:.0} creations/s, {updated:.0} updates/s"
    );
}

fn names(partition: i32, batch: i64) -> Vec<TaskId> {
    let namespace = Uuid::from_u128(partition.unsigned_abs().into());
    (0..BATCH)
        .map(|n| {
            let name = Uuid::new_v5(&namespace, &(batch * BATCH + n).to_be_bytes());
            id(&name.to_string())
        })
        .collect()
}

async fn creations(store: &Store, partition: i32, epoch: Epoch) -> Duration {
    let began = Instant::now();
    for round in 0..BATCHES {
        let ids = names(partition, round);
        let texts: Vec<&str> = ids.iter().map(TaskId::as_str).collect();
        let set = creates(&texts);
        batch(store, partition, epoch, &ids, |_| set).await;
    }
    began.elapsed()
}

async fn updates(store: &Store, partition: i32, epoch: Epoch) -> Duration {
    let began = Instant::now();
    for round in 0..BATCHES {
        let ids = names(partition, round);
        batch(store, partition, epoch, &ids, |tasks| {
            let mut set = WriteSet::default();
            for (offset, old) in (0..).zip(&tasks) {
                let new = task(old.id.as_str(), "started", old.version + 1);
                set.events.push(event(&new, 0, offset));
                set.records.push(record(offset));
                set.updated.push(new);
                set.counts.applied += 1;
            }
            set
        })
        .await;
    }
    began.elapsed()
}

async fn batch(
    store: &Store,
    partition: i32,
    epoch: Epoch,
    ids: &[TaskId],
    decide: impl FnOnce(Vec<Task>) -> WriteSet,
) {
    let mut batch = store.begin(&key(partition), epoch).await.unwrap();
    let tasks = batch.lock_tasks(ids).await.unwrap();
    assert!(
        batch
            .check_activations(&[("task-status", 0)])
            .await
            .unwrap()
    );
    let set = decide(tasks);
    batch.write(&set, NOW).await.unwrap();
    finish(batch, &set).await;
}
