//! A batch that is committed by one call: something that it rests on changes between the read and the call.
//!
//! `sim/tests/conformance.rs` shows for twelve checks of the function that their absence is noticed. These tests were not
//! each run against a function without the check.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};
use taskhost::store::{
    Activated, ActivationKind, Checkpoint, Commit, Commitment, Disposition, Epoch, Error, Key,
    NewActivation, Question, Seen, Store,
};
use taskhost_core::batch::{Wakeup, WriteSet};
use taskhost_core::frame::Frame;
use taskhost_core::task::Task;
use uuid::Uuid;

use crate::support::*;

pub(crate) async fn left(store: &Store, key: &Key, epoch: Epoch) -> Checkpoint {
    let question = Question {
        epoch,
        tasks: &[],
        rows: &[],
        letters: &[],
        ahead: false,
    };
    store.read(key, question).await.unwrap().checkpoint
}

pub(crate) fn commitment<'a>(
    owner: (Epoch, Checkpoint),
    set: &'a WriteSet,
    seen: Seen<'a>,
) -> Commitment<'a> {
    let (_, left) = owner;
    Commitment {
        owner,
        set,
        seen,
        starts: &[],
        now: NOW,
        worked: 0,
        frame: Frame {
            batch: left.batch + 1,
            next_offset: left.next_offset + i64::try_from(set.counts.consumed()).unwrap(),
            records: set.records.clone(),
        },
        token: Uuid::new_v4(),
        published: None,
    }
}

/// Commits what was decided on the partition as it is now.
pub(crate) async fn commit(
    store: &Store,
    partition: i32,
    epoch: Epoch,
    set: &WriteSet,
    seen: Seen<'_>,
) -> Result<Commit, Error> {
    let key = key(partition);
    let left = left(store, &key, epoch).await;
    store
        .commit(&key, commitment((epoch, left), set, seen))
        .await
}

fn changes(text: &str, version: i64) -> WriteSet {
    let task = task(text, "changed", version);
    let mut set = WriteSet {
        events: vec![event(&task, 0, version)],
        updated: vec![task],
        ..WriteSet::default()
    };
    set.counts.applied = 1;
    set
}

fn seen(tasks: &[Task]) -> Seen<'_> {
    Seen {
        tasks: tasks.iter().map(|task| (&task.id, task.version)).collect(),
        ..Seen::default()
    }
}

/// A batch of partition 1 that cancels a task's timer or sets it anew.
fn timed(text: &str, version: i64, new: Option<Wakeup>) -> WriteSet {
    WriteSet {
        timers: [((id(text), "t".to_owned()), new)].into(),
        ..changes(text, version)
    }
}

fn fires(row: Uuid) -> WriteSet {
    let mut set = WriteSet {
        done: vec![row],
        ..WriteSet::default()
    };
    set.counts.timers = 1;
    set
}

pub(crate) async fn batch_of(store: &Store, partition: i32, epoch: Epoch) -> i64 {
    left(store, &key(partition), epoch).await.batch
}

#[tokio::test]
async fn a_task_that_two_partitions_create_is_created_by_one() {
    let database = Database::migrated().await;
    let (a, b) = (database.store(), database.store());
    let (one, two) = (started(&a, &key(1)).await, started(&b, &key(2)).await);
    let done = commit(&a, 1, one, &creates(&["y"]), Seen::default()).await;
    assert!(matches!(done, Ok(Commit::Committed(_))), "{done:?}");
    let raced = commit(&b, 2, two, &creates(&["x", "y"]), Seen::default()).await;
    let Err(Error::CreationRaced { expected, missing }) = raced else {
        panic!("{raced:?}");
    };
    assert_eq!((expected, missing), (2, 1));
    assert_eq!(b.show_task(&id("x")).await.unwrap(), None);
    assert_eq!(batch_of(&b, 2, two).await, 0);
}

#[tokio::test]
async fn a_task_that_changed_since_it_was_read_is_named_and_nothing_is_written() {
    let database = Database::migrated().await;
    let (a, b) = (database.store(), database.store());
    let (one, two) = (started(&a, &key(1)).await, started(&b, &key(2)).await);
    run(&a, &key(1), one, &creates(&["x", "y", "z"])).await;
    let tasks = ["x", "y", "z"].map(|text| task(text, "new", 1));
    commit(&b, 2, two, &changes("y", 2), seen(&tasks))
        .await
        .unwrap();
    let mut set = changes("x", 2);
    set.updated.push(task("y", "late", 2));
    set.updated.push(task("z", "late", 2));
    let lost = commit(&a, 1, one, &set, seen(&tasks)).await;
    let Err(Error::Conflict { tasks }) = lost else {
        panic!("{lost:?}");
    };
    assert_eq!(tasks, [id("y")]);
    let x = a.show_task(&id("x")).await.unwrap().unwrap();
    assert_eq!(x.0.version, 1);
    assert_eq!(batch_of(&a, 1, one).await, 1);
}

#[tokio::test]
async fn a_timer_that_is_cancelled_or_replaced_between_read_and_commit_does_not_fire() {
    let database = Database::migrated().await;
    let (a, b) = (database.store(), database.store());
    let (one, two) = (started(&a, &key(1)).await, started(&b, &key(2)).await);
    run(&a, &key(1), one, &creates(&["x"])).await;
    let x = [task("x", "new", 1)];
    let old = timer("x", "t", NOW, 1);
    commit(&b, 2, two, &timed("x", 2, Some(old.clone())), seen(&x))
        .await
        .unwrap();
    let new = timer("x", "t", NOW, 2);
    let decided = |rows| Seen {
        rows,
        ..Seen::default()
    };
    // Replaced by the other partition, which owns the new one; then cancelled by the first.
    let x = [task("x", "changed", 2)];
    commit(&a, 1, one, &timed("x", 3, Some(new.clone())), seen(&x))
        .await
        .unwrap();
    let rows = [old.id];
    let late = commit(&b, 2, two, &fires(old.id), decided(&rows)).await;
    assert!(matches!(late, Err(Error::RowsGone)), "{late:?}");
    let x = [task("x", "changed", 3)];
    commit(&b, 2, two, &timed("x", 4, None), seen(&x))
        .await
        .unwrap();
    let rows = [new.id];
    let late = commit(&a, 1, one, &fires(new.id), decided(&rows)).await;
    assert!(matches!(late, Err(Error::RowsGone)), "{late:?}");
    assert_eq!(a.next_due(&key(1)).await.unwrap(), None);
}

#[tokio::test]
async fn an_old_rule_does_not_commit_after_an_activation() {
    let database = Database::migrated().await;
    let (a, b) = (database.store(), database.store());
    let one = started(&a, &key(1)).await;
    let digest = "aa".repeat(32);
    b.save(&digest, "plugin", "1.0.0", b"aa").await.unwrap();
    let new = NewActivation {
        route: "task-status".to_owned(),
        seen: 0,
        digest,
        config: "{}".into(),
        by: "a test".to_owned(),
        reason: "to see".to_owned(),
        kind: ActivationKind::Ordinary,
    };
    let decided = |routes| Seen {
        activations: routes,
        ..Seen::default()
    };
    commit(&a, 1, one, &creates(&["x"]), decided(&[("task-status", 0)]))
        .await
        .unwrap();
    assert!(matches!(b.activate(&new).await, Ok(Activated::Done(_))));
    let old = commit(&a, 1, one, &creates(&["y"]), decided(&[("task-status", 0)])).await;
    assert!(matches!(old, Err(Error::Activated)), "{old:?}");
    commit(
        &a,
        1,
        one,
        &creates(&["y"]),
        decided(&[("other", 0), ("task-status", 1)]),
    )
    .await
    .unwrap();
}

pub(crate) async fn sql(connection: &mut PgConnection, text: &str) -> Result<(), sqlx::Error> {
    let done = sqlx::raw_sql(AssertSqlSafe(text.to_owned()));
    done.execute(connection).await.map(drop)
}

#[tokio::test]
async fn a_host_whose_last_batch_a_failover_lost_commits_nothing_over_anothers() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(1)).await;
    run(&store, &key(1), epoch, &creates(&["x"])).await;
    let mine = left(&store, &key(1), epoch).await;
    // On the new primary the batch of that number is somebody else's.
    let mut admin = database.connection().await;
    let other = "UPDATE progress SET batch_token = gen_random_uuid()";
    sql(&mut admin, other).await.unwrap();
    let set = creates(&["y"]);
    let thawed = commitment((epoch, mine), &set, Seen::default());
    let refused = store.commit(&key(1), thawed).await;
    assert!(matches!(refused, Err(Error::Lost)), "{refused:?}");
}

#[tokio::test]
async fn a_call_that_arrives_after_the_next_claim_writes_nothing() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(1)).await;
    let mut other = database.connection().await;
    sql(&mut other, "BEGIN; UPDATE progress SET epoch = epoch + 1")
        .await
        .unwrap();
    let late = tokio::spawn({
        let store = store.clone();
        async move { commit(&store, 1, epoch, &creates(&["x"]), Seen::default()).await }
    });
    let waits = "SELECT FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut watch = database.connection().await;
    while sqlx::query(waits)
        .fetch_optional(&mut watch)
        .await
        .unwrap()
        .is_none()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sql(&mut other, "COMMIT").await.unwrap();
    let late = late.await.unwrap();
    assert!(matches!(late, Err(Error::Lost)), "{late:?}");
    assert_eq!(store.show_task(&id("x")).await.unwrap(), None);
}

/// Each fires its own timer and cancels the other's.
#[tokio::test]
async fn two_batches_that_remove_each_others_timers_never_deadlock() {
    let database = Database::migrated().await;
    let (a, b) = (database.store(), database.store());
    let (one, two) = (started(&a, &key(1)).await, started(&b, &key(2)).await);
    run(&a, &key(1), one, &creates(&["x", "y"])).await;
    let tasks = ["x", "y"].map(|text| task(text, "new", 1));
    for round in 0..20 {
        let mine = timer("x", "t", NOW, round * 2);
        let yours = timer("y", "t", NOW, round * 2 + 1);
        for (store, partition, epoch, row) in [(&a, 1, one, &mine), (&b, 2, two, &yours)] {
            let set = WriteSet {
                timers: [((row.task_id.clone(), "t".to_owned()), Some(row.clone()))].into(),
                ..WriteSet::default()
            };
            commit(store, partition, epoch, &set, seen(&tasks))
                .await
                .unwrap();
        }
        let cross = |own: &Wakeup, other: &Wakeup| WriteSet {
            timers: [((other.task_id.clone(), "t".to_owned()), None)].into(),
            ..fires(own.id)
        };
        let (first, second) = (cross(&mine, &yours), cross(&yours, &mine));
        let (rows_a, rows_b) = ([mine.id], [yours.id]);
        let decided = |rows| Seen {
            rows,
            ..Seen::default()
        };
        let both = tokio::join!(
            commit(&a, 1, one, &first, decided(&rows_a)),
            commit(&b, 2, two, &second, decided(&rows_b)),
        );
        for ended in [&both.0, &both.1] {
            let is_fine = matches!(ended, Ok(Commit::Committed(_)) | Err(Error::RowsGone));
            assert!(is_fine, "{ended:?}");
        }
        assert!(both.0.is_ok() || both.1.is_ok());
    }
}

#[tokio::test]
async fn what_is_decided_under_a_lock_wins_against_quicker_ones() {
    let database = Database::migrated().await;
    let (a, b) = (database.store(), database.store());
    let (one, two) = (started(&a, &key(1)).await, started(&b, &key(2)).await);
    run(&a, &key(1), one, &creates(&["x"])).await;
    let held = a.lock(&key(1), one, &[id("x")]).await.unwrap();
    let x = [task("x", "new", 1)];
    let left = left(&a, &key(1), one).await;
    let quick = tokio::spawn(async move {
        let x = [task("x", "new", 1)];
        commit(&b, 2, two, &changes("x", 2), seen(&x)).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!quick.is_finished());
    let set = changes("x", 2);
    let slow = commitment((one, left), &set, seen(&x));
    let done = held.complete(slow).await;
    assert!(matches!(done, Ok(Commit::Committed(_))), "{done:?}");
    let quick = quick.await.unwrap();
    assert!(matches!(quick, Err(Error::Conflict { .. })), "{quick:?}");
}

#[tokio::test]
async fn a_batch_too_large_for_one_call_is_for_fewer_causes() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(1)).await;
    let mut set = creates(&["x", "y", "z"]);
    for task in &mut set.created {
        task.data = format!("\"{}\"", "x".repeat(12 << 20)).into();
    }
    let refused = commit(&store, 1, epoch, &set, Seen::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused:?}");
    assert!(refused.is_for_fewer());
    assert_eq!(
        refused.disposition(),
        Disposition::Message,
        "alone it is to blame"
    );
    set.created.pop();
    commit(&store, 1, epoch, &set, Seen::default())
        .await
        .unwrap();
    let slow = Error::Refused {
        code: "57014".to_owned(),
        message: String::new(),
        table: None,
    };
    assert!(slow.is_for_fewer());
    assert_eq!(slow.disposition(), Disposition::Trouble, "alone nobody is");
}

/// What the statistics of a grown table say is wrong in both directions, and sessions keep the plans they began with.
#[tokio::test]
async fn a_table_that_grew_since_it_was_analysed_is_never_read_whole() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(1)).await;
    let mut admin = database.connection().await;
    let still = "ALTER TABLE tasks SET (autovacuum_enabled = false);
        ALTER TABLE wakeups SET (autovacuum_enabled = false); ANALYZE";
    sql(&mut admin, still).await.unwrap();
    for number in 0..8 {
        let name = format!("warm-{number}");
        commit(&store, 1, epoch, &creates(&[&name]), Seen::default())
            .await
            .unwrap();
        let tasks = [task(&name, "new", 1)];
        commit(&store, 1, epoch, &timed(&name, 2, None), seen(&tasks))
            .await
            .unwrap();
    }
    let fill = "INSERT INTO tasks SELECT 'task-' || lpad(n::text, 7, '0'), 't', 'new', '{}', 1, now(), now()
        FROM generate_series(0, 199999) n;
        SELECT pg_stat_reset()";
    sql(&mut admin, fill).await.unwrap();
    for round in 0..2_i64 {
        let names = (0..20).map(|n| format!("task-{:07}", n * 9_000 + round));
        let tasks: Vec<Task> = names.map(|name| task(&name, "new", 1)).collect();
        let mut set = WriteSet::default();
        for of in &tasks {
            let one = timed(of.id.as_str(), 2, None);
            set.updated.extend(one.updated);
            set.timers.extend(one.timers);
        }
        commit(&store, 1, epoch, &set, seen(&tasks)).await.unwrap();
        sql(&mut admin, "ANALYZE tasks").await.unwrap();
    }
    // The sessions tell what they read when they end.
    store.close().await;
    let read = "SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'tasks'";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let calls = "SELECT coalesce(sum(n_tup_upd), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'tasks'";
    while sqlx::query_scalar::<_, i64>(calls)
        .fetch_one(&mut admin)
        .await
        .unwrap()
        < 40
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the sessions told nothing"
        );
        sql(&mut admin, "SELECT pg_stat_clear_snapshot()")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rows: i64 = sqlx::query_scalar(read)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(rows, 0, "rows of tasks that were read one after the other");
}
