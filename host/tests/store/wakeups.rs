//! Wakeups: chains of waiting messages, timers, and hints.

use std::time::Duration;

use taskhost::store::{Epoch, Heard, Store};
use taskhost_core::batch::{Wakeup, WriteSet};

use crate::support::*;

/// Chains by their tasks and places.
fn chains_of(due: &[(&str, &[i64])]) -> Vec<(String, Vec<i64>)> {
    due.iter()
        .map(|(task, places)| ((*task).to_owned(), places.to_vec()))
        .collect()
}

/// Messages 1, 2, 3 of task `t` and 4 of `u` wait; the first of each is due.
async fn chains(store: &Store) -> Epoch {
    let epoch = started(store, &key(0)).await;
    let set = begins(vec![
        waiting("t", 1, Some(NOW)),
        waiting("t", 2, None),
        waiting("t", 3, None),
        waiting("u", 4, Some(NOW + 100)),
    ]);
    run(store, &key(0), epoch, &set).await;
    epoch
}

fn ends(of: &[(&str, i64)]) -> WriteSet {
    WriteSet {
        done: of
            .iter()
            .map(|(task, offset)| waiting(task, *offset, None).id)
            .collect(),
        settled: of.iter().map(|(task, _)| id(task)).collect(),
        ..WriteSet::default()
    }
}

fn sets(timers: Vec<Wakeup>) -> WriteSet {
    let order = |timer: Wakeup| {
        let name = timer.name.clone().unwrap();
        ((timer.task_id.clone(), name), Some(timer))
    };
    WriteSet {
        timers: timers.into_iter().map(order).collect(),
        ..WriteSet::default()
    }
}

#[tokio::test]
async fn a_task_whose_first_message_is_due_gets_all_of_them_in_order() {
    let database = Database::migrated().await;
    let store = database.store();
    chains(&store).await;
    assert!(due(&store, &key(0), NOW - 1, 10).await.is_empty());
    let t: (&str, &[i64]) = ("t", &[1, 2, 3]);
    assert_eq!(due(&store, &key(0), NOW, 10).await, chains_of(&[t]));
    let both = chains_of(&[t, ("u", &[4])]);
    assert_eq!(due(&store, &key(0), NOW + 100, 10).await, both);
    // As many as may be taken, and no more of all chains together.
    let found = due(&store, &key(0), NOW + 100, 1).await;
    assert_eq!(found, chains_of(&[("t", &[1, 2])]));
    assert!(due(&store, &key(1), NOW + 100, 10).await.is_empty());
    assert_eq!(store.next_due(&key(0)).await.unwrap(), Some(NOW));
    assert_eq!(store.next_due(&key(1)).await.unwrap(), None);
    assert_eq!(store.count_waiting(&key(0)).await.unwrap(), 4);
}

#[tokio::test]
async fn the_next_message_gets_its_turn_when_the_first_is_done() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    run(&store, &key(0), epoch, &ends(&[("t", 1)])).await;
    let found = store.due_chains(&key(0), NOW, 10).await.unwrap();
    assert_eq!(sequences(&found.chains[0]), [2, 3]);
    let dues: Vec<_> = found.chains[0].rows.iter().map(|row| row.due).collect();
    assert_eq!(dues, [Some(NOW), None]);
}

#[tokio::test]
async fn a_message_that_is_postponed_keeps_the_others_behind_it() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let second = waiting("t", 2, None);
    let set = WriteSet {
        postponed: vec![postponed(&second, NOW + 50)],
        waiting: vec![waiting("t", 9, None)],
        ..ends(&[("t", 1)])
    };
    run(&store, &key(0), epoch, &set).await;
    assert!(due(&store, &key(0), NOW + 49, 10).await.is_empty());
    let found = due(&store, &key(0), NOW + 50, 10).await;
    assert_eq!(found, chains_of(&[("t", &[2, 3, 9])]));
    let rows = store.waiting_rows(&key(0), &[second.id]).await.unwrap();
    assert_eq!((rows[0].attempt, rows[0].reason.as_str()), (1, "still not"));
    assert_eq!(rows[0].since, NOW, "it has been waiting since it came");
}

#[tokio::test]
async fn a_message_that_comes_while_the_last_one_leaves_gets_its_turn() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let set = WriteSet {
        waiting: vec![waiting("u", 9, None)],
        ..ends(&[("u", 4)])
    };
    run(&store, &key(0), epoch, &set).await;
    let found = due(&store, &key(0), NOW, 10).await;
    assert!(found.contains(&("u".to_owned(), vec![9])), "{found:?}");
}

#[tokio::test]
async fn a_task_gets_one_turn_at_a_time() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let early = timer("v", "early", NOW - 3, 3);
    let one = timer("t", "one", NOW - 5, 1);
    let timers = vec![one.clone(), timer("v", "late", NOW - 2, 2), early.clone()];
    run(&store, &key(0), epoch, &sets(timers)).await;
    let found = store.due_chains(&key(0), NOW, 10).await.unwrap();
    assert_eq!(found.timers, [early.id]);
    assert_eq!(sequences(&found.chains[0]), [1, 2, 3]);
    // Before the chain is due the timer has its turn.
    let found = store.due_chains(&key(0), NOW - 1, 10).await.unwrap();
    assert_eq!(found.timers, [one.id, early.id]);
    assert!(found.chains.is_empty());
    let rows = store.waiting_rows(&key(0), &[early.id, one.id]).await;
    assert_eq!(rows.unwrap(), [early, one], "in the order asked for");
}

#[tokio::test]
async fn a_timer_that_was_replaced_or_cancelled_no_longer_counts() {
    let database = Database::migrated().await;
    let store = database.store();
    let (one, two) = (
        started(&store, &key(1)).await,
        started(&store, &key(2)).await,
    );
    let old = timer("t", "late", NOW, 1);
    run(&store, &key(1), one, &sets(vec![old.clone()])).await;
    let found = store.due_chains(&key(1), NOW, 10).await.unwrap();
    assert_eq!(found.timers, [old.id]);
    // Another partition replaces it between the look and the lock.
    let new = timer("t", "late", NOW, 2);
    run(&store, &key(2), two, &sets(vec![new.clone()])).await;
    let mut batch = store.begin(&key(1), one).await.unwrap();
    let ids = [old.id, new.id];
    assert_eq!(batch.lock_wakeups(&ids, NOW).await.unwrap(), []);
    batch.rollback().await;
    let mut batch = store.begin(&key(2), two).await.unwrap();
    let early = batch.lock_wakeups(&[new.id], NOW - 1).await.unwrap();
    assert_eq!(early, [], "not due");
    assert_eq!(batch.lock_wakeups(&[new.id], NOW).await.unwrap(), [new]);
    batch.rollback().await;
    let cancels = WriteSet {
        timers: [((id("t"), "late".to_owned()), None)].into(),
        ..WriteSet::default()
    };
    run(&store, &key(1), one, &cancels).await;
    assert_eq!(store.next_due(&key(2)).await.unwrap(), None);
}

#[tokio::test]
async fn a_message_is_locked_whatever_its_time() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let later = waiting("u", 4, None).id;
    let locked = batch.lock_wakeups(&[later], NOW).await.unwrap();
    assert_eq!(locked.len(), 1, "it may be taken behind an earlier one");
}

#[tokio::test]
async fn a_wakeup_is_done_once() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let set = ends(&[("t", 1)]);
    run(&store, &key(0), epoch, &set).await;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    assert!(batch.lock_wakeups(&set.done, NOW).await.unwrap().is_empty());
    assert!(batch.write(&set, NOW).await.is_err());
}

#[tokio::test]
async fn a_task_that_changed_wakes_what_waits_for_it() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let mut listener = store.listen().await.unwrap();
    assert!(store.wake_tasks(&[id("v")], NOW).await.unwrap().is_empty());
    let woken = store
        .wake_tasks(&[id("u"), id("t"), id("v")], NOW + 1)
        .await
        .unwrap();
    assert_eq!(woken, [key(0)]);
    let found = due(&store, &key(0), NOW + 1, 10).await;
    assert_eq!(found, chains_of(&[("t", &[1, 2, 3]), ("u", &[4])]));
    store.notify(&woken).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(5), listener.next()).await;
    assert_eq!(heard.unwrap().unwrap(), Heard::Due(key(0)));
    // What a batch holds is left to that batch.
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let all: Vec<_> = (1..5).map(|offset| waiting("t", offset, None).id).collect();
    assert_eq!(batch.lock_wakeups(&all, NOW + 1).await.unwrap().len(), 4);
    assert!(store.wake_tasks(&[id("u")], NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deferral_finds_the_change_that_missed_it() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    run(&store, &key(0), epoch, &creates(&["a", "b"])).await;
    let seen = [(id("a"), 0), (id("b"), 1), (id("c"), 0)];
    assert_eq!(store.changed(&seen).await.unwrap(), [id("a")]);
}
