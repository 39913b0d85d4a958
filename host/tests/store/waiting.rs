//! Why causes wait, what makes them due before their time, and the clock by which they grow older.

use taskhost_core::batch::{Postponed, Wakeup, WriteSet};
use taskhost_core::waiting::Why;

use crate::support::*;

/// So late that nothing is due by itself.
const LATER: i64 = NOW + 1_000_000;

fn waits(of: &str, offset: i64, why: Why) -> Wakeup {
    Wakeup {
        why,
        ..waiting(of, offset, Some(LATER))
    }
}

fn begins(waiting: Vec<Wakeup>) -> WriteSet {
    WriteSet {
        waiting,
        ..WriteSet::default()
    }
}

fn offsets(wakeups: &[Wakeup]) -> Vec<i64> {
    wakeups.iter().map(|wakeup| wakeup.sequence).collect()
}

#[tokio::test]
async fn only_what_its_plugin_deferred_is_woken_when_its_task_changes() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let rows = [Why::Deferral, Why::Deadline, Why::Held, Why::Stranded];
    let tasks = ["a", "b", "c", "d"];
    let rows = (1..).zip(tasks).zip(rows);
    let rows = rows.map(|((offset, task), why)| waits(task, offset, why));
    run(&store, &key(0), epoch, &begins(rows.collect())).await;
    store.wake_tasks(&tasks.map(id), NOW).await.unwrap();
    let due = store.due(&key(0), NOW, 10).await.unwrap();
    assert_eq!(offsets(&due), [1]);
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
    assert_eq!(offsets(&store.due(&key(1), NOW, 10).await.unwrap()), [1]);
    assert_eq!(offsets(&store.due(&key(2), NOW, 10).await.unwrap()), [2]);
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
    assert_eq!(offsets(&store.due(&key(0), NOW, 10).await.unwrap()), [3]);
    let due = store.due(&key(0), LATER, 10).await.unwrap();
    assert_eq!(offsets(&due), [3, 1, 2]);
    assert_eq!(
        (due[1].why, due[1].reason.as_str()),
        (Why::Stranded, "no route")
    );
    assert_eq!(
        due[2].due, None,
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
    let due = store.due(&key(0), NOW, 10).await.unwrap();
    let found = (
        due[0].why,
        due[0].attempt,
        due[0].tries,
        due[0].since_worked,
    );
    assert_eq!(found, (Why::Deadline, 2, 2, Some(77)));
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
