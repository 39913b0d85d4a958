//! Law 1 in the store: every consumed record is applied, ignored, a dead letter, or waits.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use taskhost_core::batch::WriteSet;
use taskhost_core::waiting::{Caps, select};

use crate::support::*;

/// Batches at random over what waits and what comes; some are rolled back, some fail.
async fn add_up(seed: u64) {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut offset = 0;
    for round in 0..30 {
        let mut set = WriteSet::default();
        let due = store.due_chains(&key(0), NOW, 5).await.unwrap();
        let caps = Caps {
            count: 5,
            bytes: u64::MAX,
        };
        let taken = select(&due.chains, NOW, caps).taken;
        let due = store.waiting_rows(&key(0), &taken).await.unwrap();
        let mut batch = store.begin(&key(0), epoch).await.unwrap();
        let ids: Vec<_> = due.iter().map(|wakeup| wakeup.id).collect();
        let locked = batch.lock_wakeups(&ids, NOW).await.unwrap();
        assert_eq!(locked.len(), due.len());
        let mut stuck = Vec::new();
        for wakeup in due {
            set.settled.insert(wakeup.task_id.clone());
            if stuck.contains(&wakeup.task_id) {
                continue;
            }
            match random.random_range(0..3) {
                0 => {
                    stuck.push(wakeup.task_id.clone());
                    set.postponed.push(postponed(&wakeup, NOW));
                }
                outcome => {
                    set.done.push(wakeup.id);
                    set.counts.left_waiting += 1;
                    set.counts.applied += u64::from(outcome == 1);
                    set.counts.ignored += u64::from(outcome == 2);
                }
            }
        }
        let from = batch.next_offset();
        for _ in 0..random.random_range(0..6) {
            match random.random_range(0..4) {
                0 => set.counts.applied += 1,
                1 => set.counts.ignored += 1,
                2 => {
                    set.counts.dead_letters += 1;
                    set.dead_letters.push(letter(offset));
                }
                _ => {
                    let of = format!("task-{}", random.random_range(0..3));
                    set.waiting.push(waiting(&of, offset, None));
                    set.settled.insert(id(&of));
                    set.counts.deferred += 1;
                }
            }
            offset += 1;
        }
        batch.write(&set, NOW).await.unwrap();
        if random.random_bool(0.2) {
            batch.rollback().await;
            offset = from;
        } else {
            finish(batch, &set).await;
        }
        let row = &store.snapshot("group").await.unwrap()[0];
        let counters = row.counters;
        let ended = counters.applied + counters.ignored + counters.dead_letters;
        assert_eq!(
            counters.consumed,
            ended + row.waiting,
            "seed {seed}, round {round}"
        );
        assert_eq!(Some(counters.consumed), row.progress.next_offset);
        assert_eq!(row.waiting, store.count_waiting(&key(0)).await.unwrap());
        let letters = store.list_dead_letters("group", 1000).await.unwrap().len();
        assert_eq!(counters.dead_letters, i64::try_from(letters).unwrap());
    }
}

#[tokio::test]
async fn the_counters_add_up_after_every_batch() {
    for seed in 0..4 {
        add_up(seed).await;
    }
}
