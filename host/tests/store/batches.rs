//! What a batch writes, and what it refuses to.

use std::sync::Arc;
use std::time::Duration;

use taskhost::store::{Disposition, Error, TaskFilter};
use taskhost_core::batch::{Wakeup, WriteSet};
use taskhost_core::dead_letter::Stage;
use taskhost_core::record::Message;
use taskhost_core::waiting::{Rank, Why};
use uuid::Uuid;

use crate::claims::wait_for_a_lock;
use crate::support::*;

#[tokio::test]
async fn a_write_set_comes_back_as_it_was_written() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let first = creates(&["b", "a"]);
    run(&store, &key(0), epoch, &first).await;

    let changed = task("a", "started", 3);
    let mut foreign = event(&changed, 1, 9);
    foreign.foreign_trace_id = Some("trace-12".to_owned());
    let mut faulty = letter(10);
    faulty.stage = Stage::Decide;
    faulty.backtrace = Some("wasm backtrace".to_owned());
    faulty.task_id = Some(id("a"));
    (faulty.sequence, faulty.holds) = (Some(-3), true);
    faulty.route = Some("task-status".to_owned());
    faulty.plugin = Some(plugin());
    faulty.message = Arc::new(Message {
        timestamp: i64::MAX,
        key: None,
        value: None,
        headers: vec![
            ("text".to_owned(), Some("ä\0".into())),
            ("bytes".to_owned(), Some(vec![0xff, 0])),
            ("null".to_owned(), None),
            ("text".to_owned(), Some(Vec::new())),
        ],
        ..message(10)
    });
    let set = WriteSet {
        updated: vec![changed.clone()],
        events: vec![event(&changed, 0, 9), foreign],
        dead_letters: vec![faulty, letter(11)],
        waiting: vec![Wakeup {
            rank: Rank {
                sequence: -12,
                place: 7,
            },
            counts_from: Some(NOW + 4),
            why: Why::TaskMissing,
            ..waiting("c", 12, Some(NOW + 5))
        }],
        timers: [(
            (id("a"), "late".to_owned()),
            Some(timer("a", "late", NOW + 7, 1)),
        )]
        .into(),
        ..WriteSet::default()
    };
    run(&store, &key(0), epoch, &set).await;

    let (task, events) = store.show_task(&id("a")).await.unwrap().unwrap();
    assert_eq!(task, changed);
    let events: Vec<_> = events.into_iter().map(|recorded| recorded.event).collect();
    assert_eq!(events[1..], set.events);
    let mut letters: Vec<_> = store.list_dead_letters("group", 10).await.unwrap();
    letters.sort_by_key(|stored| stored.letter.id);
    let letters: Vec<_> = letters.into_iter().map(|stored| stored.letter).collect();
    assert_eq!(letters, set.dead_letters);
    let timer = set.timers.into_values().flatten();
    let rows: Vec<Wakeup> = set.waiting.into_iter().chain(timer).collect();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    assert_eq!(store.waiting_rows(&key(0), &ids).await.unwrap(), rows);
    let counts = store.count_tasks().await.unwrap();
    assert_eq!(counts.len(), 2);
    let filter = TaskFilter {
        status: Some("started".to_owned()),
        limit: 10,
        ..TaskFilter::default()
    };
    assert_eq!(store.list_tasks(&filter).await.unwrap(), [changed]);
}

#[tokio::test]
async fn json_comes_back_byte_for_byte() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let texts = [
        r#"{"b":1,  "a":2, "a":3}"#,
        r#"{"nul":"\u0000","lone":"\ud800","escaped":"\u00e4\/"}"#,
        r#"[1.0, 1e2, 100000000000000000000000000000.5, -0, 1e999999]"#,
        "\n {\t}\r ",
        &format!("{}{}", "[".repeat(127), "]".repeat(127)),
    ];
    let names: Vec<String> = (0..texts.len()).map(|n| format!("task-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut set = creates(&names);
    for ((task, event), text) in set.created.iter_mut().zip(&mut set.events).zip(texts) {
        task.data = text.into();
        event.data = text.to_owned();
    }
    run(&store, &key(0), epoch, &set).await;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let ids: Vec<_> = set.created.iter().map(|task| task.id.clone()).collect();
    assert_eq!(batch.lock_tasks(&ids).await.unwrap(), set.created);
    batch.rollback().await;
    for (task, event) in set.created.iter().zip(&set.events) {
        let (stored, events) = store.show_task(&task.id).await.unwrap().unwrap();
        assert_eq!(stored.data, task.data);
        assert_eq!(events[0].event.data, event.data);
    }
}

#[tokio::test]
async fn times_come_back_to_the_millisecond() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let times = [0, 1, 999, 946_684_799_999, NOW, 253_402_300_799_999, -1];
    let names: Vec<String> = (0..times.len()).map(|n| format!("task-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut set = creates(&names);
    for (task, at) in set.created.iter_mut().zip(times) {
        task.created_at = at;
    }
    run(&store, &key(0), epoch, &set).await;
    for (task, at) in set.created.iter().zip(times) {
        let (stored, _) = store.show_task(&task.id).await.unwrap().unwrap();
        assert_eq!(stored.created_at, at);
    }
    let mut connection = database.connection().await;
    let text: String = sqlx::query_scalar(
        "SELECT (created_at AT TIME ZONE 'UTC')::text FROM tasks WHERE id = 'task-4'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(text, "2023-11-14 22:13:20.123");
}

#[tokio::test]
async fn creations_raced_by_two_partitions_are_decided_again() {
    let database = Database::migrated().await;
    let store = database.store();
    let (one, two) = (
        started(&store, &key(1)).await,
        started(&store, &key(2)).await,
    );
    let set = creates(&["a", "b", "c"]);
    let mut first = store.begin(&key(1), one).await.unwrap();
    first.write(&set, NOW).await.unwrap();
    let mut second = store.begin(&key(2), two).await.unwrap();
    assert!(second.lock_tasks(&[id("c")]).await.unwrap().is_empty());
    let writing = tokio::spawn(async move {
        let raced = second.write(&creates(&["c", "d"]), NOW).await.unwrap_err();
        second.rollback().await;
        raced
    });
    wait_for_a_lock(&database).await;
    finish(first, &set).await;
    let raced = writing.await.unwrap();
    assert_eq!(raced.disposition(), Disposition::Raced);
    assert!(matches!(
        raced,
        Error::CreationRaced {
            expected: 2,
            missing: 1
        }
    ));
    let mut again = store.begin(&key(2), two).await.unwrap();
    assert_eq!(
        again.lock_tasks(&[id("c"), id("d")]).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn batches_that_touch_the_same_tasks_in_other_orders_never_deadlock() {
    let database = Database::migrated().await;
    let store = database.store();
    let mut workers = tokio::task::JoinSet::new();
    for partition in 0..4 {
        let store = store.clone();
        workers.spawn(async move {
            let epoch = started(&store, &key(partition)).await;
            for round in 0..25 {
                let mut names: Vec<String> =
                    (0..40).map(|n| format!("task-{}-{n}", round / 5)).collect();
                if partition % 2 == 1 {
                    names.reverse();
                }
                touch(&store, partition, epoch, &names).await;
            }
        });
    }
    workers.join_all().await;
    let counts = store.count_tasks().await.unwrap();
    assert_eq!(counts.iter().map(|count| count.tasks).sum::<i64>(), 200);
}

/// Raises the version of each task, asked for in any order, or creates it; again when another was first. A deadlock is a panic.
async fn touch(store: &taskhost::store::Store, partition: i32, epoch: i64, names: &[String]) {
    let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
    loop {
        let mut batch = store.begin(&key(partition), epoch).await.unwrap();
        let existing = batch.lock_tasks(&ids).await.unwrap();
        let mut set = WriteSet::default();
        for one in &ids {
            match existing.iter().find(|task| task.id == *one) {
                Some(found) => set
                    .updated
                    .push(task(one.as_str(), "started", found.version + 1)),
                None => set.created.push(task(one.as_str(), "new", 1)),
            }
        }
        set.updated.sort_by(|a, b| a.id.cmp(&b.id));
        set.created.sort_by(|a, b| a.id.cmp(&b.id));
        match batch.write(&set, NOW).await {
            Ok(()) => break drop(finish(batch, &set).await),
            Err(error) => {
                assert_eq!(error.disposition(), Disposition::Raced, "{error:?}");
                batch.rollback().await;
            }
        }
    }
}

#[tokio::test]
async fn a_task_that_was_not_locked_at_its_version_is_not_written() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    run(&store, &key(0), epoch, &creates(&["a"])).await;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let set = WriteSet {
        updated: vec![task("a", "started", 2)],
        ..WriteSet::default()
    };
    let refused = batch.write(&set, NOW).await.unwrap_err();
    assert_eq!(refused.disposition(), Disposition::Halt);
    let frame = frame(&batch, 2, &set);
    let failed = batch.commit(1, frame, Uuid::new_v4(), None).await;
    assert!(failed.is_err(), "a failed batch commits nothing");
}

#[tokio::test]
async fn what_the_database_refuses_blames_a_message_and_a_duplicate_blames_none() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    for data in ["{not json", "", "{} {}"] {
        let mut set = creates(&["a"]);
        set.created[0].data = data.into();
        let mut batch = store.begin(&key(0), epoch).await.unwrap();
        let refused = batch.write(&set, NOW).await.unwrap_err();
        assert_eq!(refused.disposition(), Disposition::Message, "{refused:?}");
    }
    let mut set = creates(&["a"]);
    set.created[0].updated_at = i64::MAX;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let refused = batch.write(&set, NOW).await.unwrap_err();
    assert_eq!(refused.disposition(), Disposition::Message, "{refused:?}");
    batch.rollback().await;

    let mut set = creates(&["a"]);
    set.waiting = vec![waiting("a", 1, None); 2];
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let refused = batch.write(&set, NOW).await.unwrap_err();
    assert_eq!(refused.disposition(), Disposition::Halt, "{refused:?}");
}

#[tokio::test]
async fn a_batch_that_is_dropped_leaves_nothing_and_gives_its_locks_back() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    for _ in 0..20 {
        let mut batch = store.begin(&key(0), epoch).await.unwrap();
        batch.write(&creates(&["a"]), NOW).await.unwrap();
        drop(batch);
    }
    // Also in the middle of a statement.
    let holder = store.begin(&key(0), epoch).await.unwrap();
    let key = key(0);
    let begin = store.begin(&key, epoch);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), begin)
            .await
            .is_err()
    );
    drop(holder);
    run(&store, &key, epoch, &creates(&["a"])).await;
    assert_eq!(store.snapshot("group").await.unwrap()[0].progress.batch, 1);
}

#[tokio::test]
async fn nothing_needs_to_be_prepared_behind_a_proxy() {
    let database = Database::migrated().await;
    let mut settings = settings(&database.url);
    settings.prepared = false;
    let store = taskhost::store::Store::connect(&settings).unwrap();
    let epoch = started(&store, &key(0)).await;
    run(&store, &key(0), epoch, &creates(&["a", "b"])).await;
    assert_eq!(store.frames(&key(0), 1, 1).await.unwrap().len(), 1);
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    assert_eq!(batch.lock_tasks(&[id("a")]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_with_nothing_to_write_advances_progress_all_the_same() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let set = WriteSet::default();
    assert!(batch.lock_tasks(&[]).await.unwrap().is_empty());
    assert!(batch.lock_wakeups(&[], NOW).await.unwrap().is_empty());
    assert!(batch.check_activations(&[]).await.unwrap());
    batch.write(&set, NOW).await.unwrap();
    let frame = frame(&batch, 17, &set);
    batch.commit(0, frame, Uuid::new_v4(), None).await.unwrap();
    let row = &store.snapshot("group").await.unwrap()[0];
    assert_eq!(
        (row.progress.batch, row.progress.next_offset),
        (1, Some(17))
    );
}
