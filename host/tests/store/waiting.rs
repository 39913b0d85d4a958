//! Why causes wait, what makes them due before their time, and the clock by which they grow older.

use std::collections::BTreeSet;

use taskhost::store::{Seen, Store, WaitingFilter, WaitingRow};
use taskhost_core::batch::{Postponed, Wakeup, WakeupKind, WriteSet};
use taskhost_core::waiting::Why;
use uuid::Uuid;

use crate::support::*;

/// So late that nothing is due by itself.
const LATER: i64 = NOW + 1_000_000;

fn waits(of: &str, offset: i64, why: Why) -> Wakeup {
    Wakeup {
        why,
        ..waiting(of, offset, Some(LATER))
    }
}

async fn offsets(store: &Store, partition: i32, now: i64) -> Vec<i64> {
    let due = due(store, &key(partition), now, 10).await;
    due.into_iter().flat_map(|(_, offsets)| offsets).collect()
}

async fn row(store: &Store, of: &str, offset: i64) -> Wakeup {
    let id = waiting(of, offset, None).id;
    let rows = store.waiting_rows(&key(0), &[id]).await.unwrap();
    rows.into_iter().next().unwrap()
}

#[tokio::test]
async fn only_what_its_plugin_deferred_is_woken_when_its_task_changes() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let rows = [
        Why::Deferral,
        Why::Deadline,
        Why::Held,
        Why::Stranded,
        Why::TaskMissing,
    ];
    let tasks = ["a", "b", "c", "d", "e"];
    let rows = (1..).zip(tasks).zip(rows);
    let rows = rows.map(|((offset, task), why)| waits(task, offset, why));
    run(&store, &key(0), epoch, &begins(rows.collect())).await;
    store.wake_tasks(&tasks.map(id), NOW).await.unwrap();
    assert_eq!(offsets(&store, 0, NOW).await, [1, 5]);
    let woken = row(&store, "a", 1).await;
    let counts = (woken.due, woken.counts_from);
    assert_eq!(
        counts,
        (Some(NOW), Some(LATER)),
        "an early ask spends no attempt"
    );
}

#[tokio::test]
async fn what_is_held_on_a_route_is_released_at_once() {
    let database = Database::migrated().await;
    let store = database.store();
    let (one, two) = (
        started(&store, &key(1)).await,
        started(&store, &key(2)).await,
    );
    let elsewhere = Wakeup {
        route: "another".to_owned(),
        ..waits("c", 3, Why::Held)
    };
    let set = begins(vec![waits("a", 1, Why::Held), elsewhere]);
    run(&store, &key(1), one, &set).await;
    let set = begins(vec![waits("b", 2, Why::Held), waits("d", 4, Why::Deadline)]);
    run(&store, &key(2), two, &set).await;
    let group = key(1).group;
    let released = store.release_held(&group, "task-status", NOW).await;
    assert_eq!(released.unwrap(), [key(1), key(2)]);
    assert_eq!(offsets(&store, 1, NOW).await, [1]);
    assert_eq!(offsets(&store, 2, NOW).await, [2]);
    let again = store.release_held(&group, "task-status", NOW).await;
    assert_eq!(again.unwrap(), []);
}

#[tokio::test]
async fn what_a_host_cannot_decide_is_put_off_and_counted_and_only_its_owner_says_so() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let set = begins(vec![
        waiting("a", 1, Some(NOW - 2)),
        waiting("a", 2, None),
        waiting("b", 3, Some(NOW - 1)),
    ]);
    run(&store, &key(0), epoch, &set).await;
    let rows: Vec<_> = [1, 2]
        .map(|offset| (waiting("a", offset, None).id, "no route"))
        .to_vec();
    let stale = store.strand(&key(0), epoch - 1, &rows, LATER).await;
    assert_eq!(stale.unwrap(), 0, "somebody who lost the partition");
    assert_eq!(store.count_stranded(&key(0)).await.unwrap(), (0, None));
    let stranded = store.strand(&key(0), epoch, &rows, LATER).await;
    assert_eq!(stranded.unwrap(), 2);
    assert_eq!(store.count_stranded(&key(0)).await.unwrap().0, 2);
    assert_eq!(offsets(&store, 0, NOW).await, [3]);
    assert_eq!(offsets(&store, 0, LATER).await, [3, 1, 2]);
    let first = row(&store, "a", 1).await;
    assert_eq!(
        (first.why, first.reason.as_str()),
        (Why::Stranded, "no route")
    );
    let behind = row(&store, "a", 2).await;
    assert_eq!(
        behind.due, None,
        "what waits behind gets no time of its own"
    );
}

#[tokio::test]
async fn why_and_the_counts_come_back_as_they_were_postponed() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    run(
        &store,
        &key(0),
        epoch,
        &begins(vec![waits("a", 1, Why::Turn)]),
    )
    .await;
    let postponed = Postponed {
        why: Why::Deadline,
        tries: 2,
        since_worked: Some(77),
        ..postponed(&waits("a", 1, Why::Turn), NOW)
    };
    let set = WriteSet {
        postponed: vec![postponed],
        ..WriteSet::default()
    };
    run(&store, &key(0), epoch, &set).await;
    let found = row(&store, "a", 1).await;
    let counts = (found.attempt, found.tries, found.since_worked);
    assert_eq!((found.why, counts), (Why::Deadline, (2, 2, Some(77))));
    assert_eq!((found.due, found.counts_from), (Some(NOW), Some(NOW)));
}

#[tokio::test]
async fn working_time_only_grows_and_only_by_the_owner() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let again = |store: taskhost::store::Store| async move {
        let claim = store.claim(&key(0), &own("host-a")).await.unwrap();
        (claim.epoch, claim.worked)
    };
    store.set_worked(&key(0), epoch, 500).await.unwrap();
    store.set_worked(&key(0), epoch, 400).await.unwrap();
    let (epoch, worked) = again(store.clone()).await;
    assert_eq!(worked, 500);
    // With a batch; one that says nothing of it, or less, takes nothing away.
    for (said, stored) in [(900, 900), (0, 900), (800, 900)] {
        let batch = store.begin(&key(0), epoch).await.unwrap();
        finish(batch.having_worked(said), &WriteSet::default()).await;
        let row = store.snapshot(&key(0).group).await.unwrap();
        assert_eq!(row[0].worked, stored);
    }
    let (next, _) = again(store.clone()).await;
    store.set_worked(&key(0), epoch, 9_000).await.unwrap();
    let (_, worked) = again(store.clone()).await;
    assert_eq!(worked, 900, "a host that lost the partition");
    assert!(next > epoch);
}

async fn listed(store: &Store, filter: WaitingFilter) -> Vec<(String, i64, Option<i64>)> {
    let filter = WaitingFilter {
        limit: 100,
        ..filter
    };
    let mut pages = store.waiting_pages("group", &filter).await.unwrap();
    let rows = pages.next().await.unwrap();
    assert!(pages.next().await.unwrap().is_empty());
    pages.close().await;
    let shown = |row: WaitingRow| {
        let task = row.wakeup.task_id.to_string();
        (task, row.wakeup.rank.sequence, row.wakeup.due)
    };
    rows.into_iter().map(shown).collect()
}

/// Two of `a`, of which the second waits for its turn; one of `b` that is stranded; a timer of `c`.
async fn several(store: &Store) -> i64 {
    let epoch = started(store, &key(0)).await;
    let behind = waiting("a", 2, None);
    let mut set = begins(vec![
        waits("a", 1, Why::Deferral),
        behind,
        waits("b", 3, Why::Stranded),
    ]);
    let timer = timer("c", "late", LATER, 9);
    let name = (timer.task_id.clone(), "late".to_owned());
    set.timers.insert(name, Some(timer));
    run(store, &key(0), epoch, &set).await;
    epoch
}

#[tokio::test]
async fn what_waits_is_listed_in_the_order_in_which_it_is_decided() {
    let database = Database::migrated().await;
    let store = database.store();
    several(&store).await;
    let all = listed(&store, WaitingFilter::default()).await;
    let row = |task: &str, sequence, due| (task.to_owned(), sequence, due);
    let (a, behind) = (row("a", 1, Some(LATER)), row("a", 2, None));
    let (b, late) = (row("b", 3, Some(LATER)), row("c", 0, Some(LATER)));
    assert_eq!(all.len(), 4);
    assert_eq!(all[..3], [a.clone(), behind.clone(), b.clone()]);
    assert_eq!((all[3].0.as_str(), all[3].2), ("c", late.2));
    let of_task = WaitingFilter {
        task: Some("a".to_owned()),
        ..WaitingFilter::default()
    };
    assert_eq!(listed(&store, of_task).await, [a, behind]);
    let stranded = WaitingFilter {
        whys: vec![Why::Stranded],
        ..WaitingFilter::default()
    };
    assert_eq!(listed(&store, stranded).await, [b]);
    let timers = WaitingFilter {
        kind: Some(WakeupKind::Timer),
        ..WaitingFilter::default()
    };
    assert_eq!(listed(&store, timers).await[0].0, "c");
    let elsewhere = WaitingFilter {
        partition: Some(1),
        ..WaitingFilter::default()
    };
    assert_eq!(listed(&store, elsewhere).await, []);
}

#[tokio::test]
async fn what_is_retried_is_due_now_but_for_timers_and_what_waits_for_its_turn() {
    let database = Database::migrated().await;
    let store = database.store();
    several(&store).await;
    let ids: Vec<Uuid> = [("a", 1), ("a", 2), ("b", 3)]
        .map(|(of, offset)| waiting(of, offset, None).id)
        .into();
    let with_timer = [&ids[..], &[timer("c", "late", LATER, 9).id]].concat();
    let ordered = store
        .retry_waiting("group", &with_timer, NOW)
        .await
        .unwrap();
    let reached: BTreeSet<Uuid> = ordered.ids.into_iter().collect();
    assert_eq!(reached, BTreeSet::from([ids[0], ids[2]]));
    assert_eq!(ordered.keys, [key(0)]);
    let first = row(&store, "a", 1).await;
    assert_eq!((first.due, first.counts_from), (Some(NOW), Some(LATER)));
    assert_eq!(row(&store, "a", 2).await.due, None);
}

#[tokio::test]
async fn what_is_given_up_stays_so_although_a_batch_postpones_it_at_the_same_time() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = several(&store).await;
    let (first, behind) = (waiting("a", 1, None), waiting("a", 2, None));
    let ids = [first.id, behind.id];
    let ordered = store
        .give_up_waiting("group", &ids, "me", NOW)
        .await
        .unwrap();
    assert_eq!(ordered.ids.len(), 2);
    let given_up = row(&store, "a", 1).await;
    assert_eq!(given_up.given_up_by.as_deref(), Some("me"));
    assert_eq!(given_up.due, Some(NOW));
    assert_eq!(row(&store, "a", 2).await.due, None, "its turn comes first");
    // A batch that had read the row before postpones it.
    let set = WriteSet {
        postponed: vec![postponed(&first, LATER)],
        ..WriteSet::default()
    };
    let seen = Seen {
        rows: &[first.id],
        ..Seen::default()
    };
    crate::one_call::commit(&store, 0, epoch, &set, seen)
        .await
        .unwrap();
    let again = row(&store, "a", 1).await;
    assert_eq!(again.given_up_by.as_deref(), Some("me"));
    assert_eq!(again.due, Some(NOW), "its owner looks at it again at once");
}
