//! Wakeups: chains of waiting messages, timers, and hints.

use std::time::Duration;

use taskhost::store::{Epoch, Heard, Store};
use taskhost_core::batch::{Wakeup, WriteSet};

use crate::support::*;

fn sequences(wakeups: &[Wakeup]) -> Vec<(&str, i64)> {
    wakeups
        .iter()
        .map(|wakeup| (wakeup.task_id.as_str(), wakeup.sequence))
        .collect()
}

/// Messages 1, 2, 3 of task `t` and 4 of `u` wait; the first of each is due.
async fn chains(store: &Store) -> Epoch {
    let epoch = started(store, &key(0)).await;
    let set = WriteSet {
        waiting: vec![
            waiting("t", 1, Some(NOW)),
            waiting("t", 2, None),
            waiting("t", 3, None),
            waiting("u", 4, Some(NOW + 100)),
        ],
        ..WriteSet::default()
    };
    run(store, &key(0), epoch, &set).await;
    epoch
}

#[tokio::test]
async fn a_task_whose_first_message_is_due_gets_all_of_them_in_order() {
    let database = Database::migrated().await;
    let store = database.store();
    chains(&store).await;
    assert!(store.due(&key(0), NOW - 1, 10).await.unwrap().is_empty());
    let due = store.due(&key(0), NOW, 10).await.unwrap();
    assert_eq!(sequences(&due), [("t", 1), ("t", 2), ("t", 3)]);
    let due = store.due(&key(0), NOW + 100, 10).await.unwrap();
    assert_eq!(sequences(&due), [("t", 1), ("t", 2), ("t", 3), ("u", 4)]);
    let due = store.due(&key(0), NOW + 100, 2).await.unwrap();
    assert_eq!(
        sequences(&due),
        [("t", 1), ("t", 2)],
        "a chain is cut at the limit"
    );
    assert!(store.due(&key(1), NOW + 100, 10).await.unwrap().is_empty());
    assert_eq!(store.next_due(&key(0)).await.unwrap(), Some(NOW));
    assert_eq!(store.next_due(&key(1)).await.unwrap(), None);
    assert_eq!(store.count_waiting(&key(0)).await.unwrap(), 4);
}

#[tokio::test]
async fn the_next_message_gets_its_turn_when_the_first_is_done() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let first = waiting("t", 1, Some(NOW));
    let set = WriteSet {
        done: vec![first.id],
        ..WriteSet::default()
    };
    run(&store, &key(0), epoch, &set).await;
    let due = store.due(&key(0), NOW, 10).await.unwrap();
    assert_eq!(sequences(&due), [("t", 2), ("t", 3)]);
    assert_eq!(due[0].due, Some(NOW));
    assert_eq!(due[1].due, None);
}

#[tokio::test]
async fn a_message_that_is_postponed_keeps_the_others_behind_it() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let (first, second) = (waiting("t", 1, Some(NOW)), waiting("t", 2, None));
    let set = WriteSet {
        done: vec![first.id],
        postponed: vec![postponed(&second, NOW + 50)],
        waiting: vec![waiting("t", 9, None)],
        ..WriteSet::default()
    };
    run(&store, &key(0), epoch, &set).await;
    assert!(store.due(&key(0), NOW + 49, 10).await.unwrap().is_empty());
    let due = store.due(&key(0), NOW + 50, 10).await.unwrap();
    assert_eq!(sequences(&due), [("t", 2), ("t", 3), ("t", 9)]);
    assert_eq!((due[0].attempt, due[0].reason.as_str()), (1, "still not"));
    assert_eq!(due[0].since, NOW, "it has been waiting since it came");
}

#[tokio::test]
async fn a_message_that_comes_while_the_last_one_leaves_gets_its_turn() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let set = WriteSet {
        done: vec![waiting("u", 4, None).id],
        waiting: vec![waiting("u", 9, None)],
        ..WriteSet::default()
    };
    run(&store, &key(0), epoch, &set).await;
    let due = store.due(&key(0), NOW, 10).await.unwrap();
    assert_eq!(sequences(&due)[3..], [("u", 9)]);
}

#[tokio::test]
async fn a_task_gets_one_turn_at_a_time() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let set = |timers: Vec<Wakeup>| WriteSet {
        timers: timers
            .into_iter()
            .map(|timer| {
                (
                    (timer.task_id.clone(), timer.name.clone().unwrap()),
                    Some(timer),
                )
            })
            .collect(),
        ..WriteSet::default()
    };
    let timers = vec![
        timer("t", "one", NOW - 5, 1),
        timer("v", "late", NOW - 2, 2),
        timer("v", "early", NOW - 3, 3),
    ];
    run(&store, &key(0), epoch, &set(timers)).await;
    let due = store.due(&key(0), NOW, 10).await.unwrap();
    let names: Vec<_> = due.iter().map(|wakeup| wakeup.name.as_deref()).collect();
    assert_eq!(names, [Some("early"), None, None, None]);
    assert_eq!(sequences(&due)[1..], [("t", 1), ("t", 2), ("t", 3)]);
    // Before the chain is due the timer has its turn.
    let due = store.due(&key(0), NOW - 1, 10).await.unwrap();
    let names: Vec<_> = due.iter().map(|wakeup| wakeup.name.as_deref()).collect();
    assert_eq!(names, [Some("one"), Some("early")]);
}

#[tokio::test]
async fn a_timer_that_was_replaced_or_cancelled_no_longer_counts() {
    let database = Database::migrated().await;
    let store = database.store();
    let (one, two) = (
        started(&store, &key(1)).await,
        started(&store, &key(2)).await,
    );
    let order = |name: &str, timer: Option<Wakeup>| WriteSet {
        timers: [((id("t"), name.to_owned()), timer)].into(),
        ..WriteSet::default()
    };
    let old = timer("t", "late", NOW, 1);
    run(&store, &key(1), one, &order("late", Some(old.clone()))).await;
    let due = store.due(&key(1), NOW, 10).await.unwrap();
    assert_eq!(due, std::slice::from_ref(&old));
    // Another partition replaces it between the look and the lock.
    let new = timer("t", "late", NOW, 2);
    run(&store, &key(2), two, &order("late", Some(new.clone()))).await;
    let mut batch = store.begin(&key(1), one).await.unwrap();
    assert!(
        batch
            .lock_wakeups(&[old.id, new.id], NOW)
            .await
            .unwrap()
            .is_empty()
    );
    batch.rollback().await;
    let mut batch = store.begin(&key(2), two).await.unwrap();
    assert!(
        batch
            .lock_wakeups(&[new.id], NOW - 1)
            .await
            .unwrap()
            .is_empty(),
        "not due"
    );
    assert_eq!(batch.lock_wakeups(&[new.id], NOW).await.unwrap(), [new]);
    batch.rollback().await;
    run(&store, &key(1), one, &order("late", None)).await;
    assert_eq!(store.next_due(&key(2)).await.unwrap(), None);
}

#[tokio::test]
async fn a_wakeup_is_done_once() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let set = WriteSet {
        done: vec![waiting("t", 1, None).id],
        ..WriteSet::default()
    };
    run(&store, &key(0), epoch, &set).await;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    assert!(batch.lock_wakeups(&set.done, NOW).await.unwrap().is_empty());
    assert!(batch.write(&set, NOW).await.is_err());
}

#[tokio::test]
async fn tasks_with_messages_waiting_are_blocked_in_their_partition_only() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = chains(&store).await;
    let other = started(&store, &key(1)).await;
    let ids = [id("t"), id("u"), id("v")];
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let blocked = batch.blocked(&ids).await.unwrap();
    assert_eq!(blocked, [id("t"), id("u")].into());
    let mut batch = store.begin(&key(1), other).await.unwrap();
    assert!(batch.blocked(&ids).await.unwrap().is_empty());
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
    let due = store.due(&key(0), NOW + 1, 10).await.unwrap();
    assert_eq!(sequences(&due), [("t", 1), ("t", 2), ("t", 3), ("u", 4)]);
    store.notify(&woken).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(5), listener.next()).await;
    assert_eq!(heard.unwrap().unwrap(), Heard::Due(key(0)));
    // What a batch holds is left to that batch.
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let all: Vec<_> = due.iter().map(|wakeup| wakeup.id).collect();
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
