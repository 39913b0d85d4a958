//! Dead letters after they were made: replays, edits, pages, imports, retention.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use taskhost::store::{Edited, Filter, Imported, Kept, State, Store, Trimmed};
use taskhost_core::batch::WriteSet;
use taskhost_core::dead_letter::DeadLetter;
use taskhost_core::record::TopicPartition;
use taskhost_core::replay::{End, Replayed};
use uuid::Uuid;

use crate::support::{Database, finish, id, key, letter, run, started};

/// A batch with dead letters of so many records.
fn letters(count: i64) -> WriteSet {
    let mut set = WriteSet::default();
    for offset in 0..count {
        set.dead_letters.push(letter(offset));
        set.counts.dead_letters += 1;
    }
    set
}

/// A batch that ends a replay.
fn ends(wakeup: Uuid, letter: Uuid, end: End) -> WriteSet {
    let mut set = WriteSet {
        done: vec![wakeup],
        replayed: vec![Replayed { letter, end }],
        ..WriteSet::default()
    };
    set.counts.applied = 1;
    set.counts.left_dead_letters = 1;
    set
}

async fn state(store: &Store, id: Uuid) -> (State, i32) {
    let (stored, _) = store.show_dead_letter("group", id).await.unwrap().unwrap();
    (stored.state, stored.letter.replays)
}

#[tokio::test]
async fn a_replay_ends_with_its_wakeup_or_not_at_all() {
    let database = Database::migrated().await;
    let (store, key) = (database.store(), key(0));
    let epoch = started(&store, &key).await;
    run(&store, &key, epoch, &letters(1)).await;
    let first = letter(0).id;

    // Two people at once: one of them gets it.
    let ids = [first];
    let (one, other) = tokio::join!(
        store.request_replays("group", &ids, false, false, "ann"),
        store.request_replays("group", &ids, false, false, "bob"),
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.ids.len() + other.ids.len(), 1);
    let keys = [one.keys, other.keys].concat();
    assert_eq!(keys, std::slice::from_ref(&key));
    assert_eq!(state(&store, first).await, (State::Replaying, 0));
    // At once, and for as long as it is there: it is no matter of a hint.
    let own = ["host-0".to_owned()];
    let looks = async || {
        let regular = store.next_due_of_own(&key, epoch, &own).await.unwrap();
        assert_eq!(store.next_due(&key).await.unwrap(), regular);
        regular
    };
    assert_eq!(looks().await, Some(0));

    let due = store.due_replays(&key, 0, 10, 1000).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].letter.letter.id, first);
    let set = ends(due[0].wakeup.id, first, End::Applied);

    // A batch that is not committed changes nothing.
    let mut batch = store.begin(&key, epoch).await.unwrap();
    batch.write(&set, 0).await.unwrap();
    batch.rollback().await;
    assert_eq!(state(&store, first).await, (State::Replaying, 0));
    assert_eq!(store.due_replays(&key, 0, 10, 1000).await.unwrap(), due);

    run(&store, &key, epoch, &set).await;
    assert_eq!(state(&store, first).await, (State::Applied, 1));
    assert_eq!(looks().await, None);
    assert!(
        store
            .due_replays(&key, 0, 10, 1000)
            .await
            .unwrap()
            .is_empty()
    );
    let counters = store.snapshot("group").await.unwrap()[0].counters;
    assert_eq!(
        (counters.consumed, counters.applied, counters.dead_letters),
        (1, 1, 0)
    );

    // And the same once more is refused: the wakeup is gone.
    let mut batch = store.begin(&key, epoch).await.unwrap();
    assert!(batch.write(&set, 0).await.is_err());
    batch.rollback().await;
    let again = store
        .request_replays("group", &ids, true, false, "ann")
        .await
        .unwrap();
    assert!(again.ids.is_empty());
}

#[tokio::test]
async fn a_replay_that_fails_keeps_the_message_and_says_what_is_wrong_now() {
    let database = Database::migrated().await;
    let (store, key) = (database.store(), key(0));
    let epoch = started(&store, &key).await;
    run(&store, &key, epoch, &letters(1)).await;
    let first = letter(0).id;
    store
        .request_replays("group", &[first], false, false, "ann")
        .await
        .unwrap();
    let due = store.due_replays(&key, 0, 10, 1000).await.unwrap();
    let failed = DeadLetter {
        code: "illegal-transition".to_owned(),
        task_id: Some(id("a")),
        ..letter(0)
    };
    let end = End::Failed {
        letter: Box::new(failed),
        parked: true,
    };
    let mut set = ends(due[0].wakeup.id, first, end);
    (set.counts.applied, set.counts.dead_letters) = (0, 1);
    run(&store, &key, epoch, &set).await;
    let (stored, _) = store
        .show_dead_letter("group", first)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.letter.code, "illegal-transition");
    assert_eq!(stored.letter.message, letter(0).message);
    assert_eq!((stored.state, stored.letter.replays), (State::Parked, 1));
    for (force, taken) in [(false, 0), (true, 1)] {
        let asked = store
            .request_replays("group", &[first], force, false, "ann")
            .await
            .unwrap();
        assert_eq!(asked.ids.len(), taken);
    }
    // Called back it is parked again, if it had as many tries as there are.
    for (most, then) in [(1, State::Parked), (2, State::Open)] {
        let back = store.cancel_replays("group", &[first], most, "bob").await;
        assert_eq!(back.unwrap(), [first]);
        assert_eq!(state(&store, first).await, (then, 1));
        let asked = store
            .request_replays("group", &[first], true, false, "ann")
            .await;
        assert_eq!(asked.unwrap().ids, [first]);
    }
}

#[tokio::test]
async fn a_replay_that_is_called_back_leaves_nothing_and_one_that_a_batch_has_is_left_to_that() {
    let database = Database::migrated().await;
    let (store, key) = (database.store(), key(0));
    let epoch = started(&store, &key).await;
    run(&store, &key, epoch, &letters(1)).await;
    let first = letter(0).id;
    let ids = [first];
    let none = store.cancel_replays("group", &ids, 5, "bob").await;
    assert!(none.unwrap().is_empty(), "it is not on its way");

    let ask = || store.request_replays("group", &ids, false, true, "ann");
    assert_eq!(ask().await.unwrap().ids, ids);
    let back = store.cancel_replays("group", &ids, 5, "bob").await;
    assert_eq!(back.unwrap(), ids);
    let (stored, _) = store
        .show_dead_letter("group", first)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((stored.state, stored.republish), (State::Open, false));
    assert_eq!(stored.decided_by.as_deref(), Some("bob"));
    assert_eq!(store.due_replays(&key, 0, 10, 1000).await.unwrap(), []);

    // A batch has it: whoever calls it back waits for its end, and is too late.
    let ask = || store.request_replays("group", &ids, false, false, "ann");
    assert_eq!(ask().await.unwrap().ids, ids);
    let due = store.due_replays(&key, 0, 10, 1000).await.unwrap();
    let wakeup = due[0].wakeup.id;
    let set = ends(wakeup, first, End::Applied);
    let mut batch = store.begin(&key, epoch).await.unwrap();
    let locked = batch.lock_wakeups(&[wakeup], 0).await.unwrap();
    assert_eq!(locked.len(), 1);
    let deciding = async {
        batch.write(&set, 0).await.unwrap();
        finish(batch, &set).await
    };
    let (back, _) = tokio::join!(store.cancel_replays("group", &ids, 5, "bob"), deciding);
    assert!(back.unwrap().is_empty(), "too late");
    assert_eq!(state(&store, first).await, (State::Applied, 1));

    // The other way round the batch finds it gone.
    run(&store, &key, epoch, &{
        let mut set = WriteSet::default();
        set.dead_letters.push(letter(1));
        set.counts.dead_letters = 1;
        set
    })
    .await;
    let ids = [letter(1).id];
    let ask = store.request_replays("group", &ids, false, false, "ann");
    assert_eq!(ask.await.unwrap().ids, ids);
    let due = store.due_replays(&key, 0, 10, 1000).await.unwrap();
    let back = store.cancel_replays("group", &ids, 5, "bob").await;
    assert_eq!(back.unwrap(), ids);
    let mut batch = store.begin(&key, epoch).await.unwrap();
    let locked = batch.lock_wakeups(&[due[0].wakeup.id], 0).await.unwrap();
    assert_eq!(locked, []);
    batch.rollback().await;
}

#[tokio::test]
async fn replays_are_taken_in_the_order_in_which_they_failed_and_as_many_as_fit() {
    let database = Database::migrated().await;
    let (store, key) = (database.store(), key(0));
    let epoch = started(&store, &key).await;
    run(&store, &key, epoch, &letters(20)).await;
    let mut ids: Vec<Uuid> = (0..20).map(|offset| letter(offset).id).collect();
    ids.reverse();
    store
        .request_replays("group", &ids, false, false, "ann")
        .await
        .unwrap();
    let offsets = async |limit, bytes| -> Vec<i64> {
        let due = store.due_replays(&key, 0, limit, bytes).await.unwrap();
        due.iter()
            .map(|one| one.letter.letter.message.position.offset)
            .collect()
    };
    assert_eq!(offsets(5, 1_000_000).await, [0, 1, 2, 3, 4]);
    // Each payload has 300 bytes.
    assert_eq!(offsets(10, 700).await, [0, 1]);
    assert_eq!(offsets(10, 1).await, [0], "one is always taken");
}

#[tokio::test]
async fn an_edit_keeps_what_came_and_never_overwrites_another_edit() {
    let database = Database::migrated().await;
    let (store, key) = (database.store(), key(0));
    let epoch = started(&store, &key).await;
    run(&store, &key, epoch, &letters(1)).await;
    let first = letter(0).id;
    let edit = async |seen, value: Option<&'static [u8]>| {
        store
            .edit_dead_letter("group", first, seen, value, "ann", "why")
            .await
            .unwrap()
    };
    assert_eq!(edit(0, Some(b"one")).await, Edited::Edited);
    assert_eq!(edit(0, Some(b"two")).await, Edited::Raced);
    assert_eq!(edit(1, None).await, Edited::Edited);
    let (stored, edits) = store
        .show_dead_letter("group", first)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.letter.message, letter(0).message);
    assert_eq!(stored.message().value, None, "a tombstone");
    let values: Vec<_> = edits.into_iter().map(|edit| edit.value).collect();
    assert_eq!(values, [Some(b"one".to_vec()), None]);
    store
        .request_replays("group", &[first], false, false, "ann")
        .await
        .unwrap();
    assert_eq!(edit(2, Some(b"x")).await, Edited::Refused(State::Replaying));
}

#[tokio::test]
async fn what_is_imported_counts_here_and_only_once() {
    let database = Database::migrated().await;
    let (store, key) = (database.store(), key(0));
    started(&store, &key).await;
    let some: Vec<_> = (0..3)
        .map(|offset| (letter(offset), format!("t.dlq[0]@{offset}")))
        .collect();
    for new in [3, 0] {
        let imported = store.import_dead_letters(&key, &some).await.unwrap();
        assert_eq!(imported, Imported::New(new));
    }
    let counters = store.snapshot("group").await.unwrap()[0].counters;
    assert_eq!((counters.consumed, counters.dead_letters), (3, 3));
    let nowhere = taskhost::store::Key::new("group", TopicPartition::new("other", 0));
    let imported = store.import_dead_letters(&nowhere, &some).await.unwrap();
    assert_eq!(imported, Imported::NoSuchPartition);
}

#[tokio::test]
async fn retention_takes_what_is_done_with_and_published_and_nothing_else() {
    let database = Database::migrated().await;
    let (store, key) = (database.store(), key(0));
    let epoch = started(&store, &key).await;
    run(&store, &key, epoch, &letters(6)).await;
    let batch = store.begin(&key, epoch).await.unwrap();
    finish(batch, &WriteSet::default()).await;
    store.set_published(&key, 1).await.unwrap();
    let ids: Vec<Uuid> = (0..6).map(|offset| letter(offset).id).collect();
    store
        .discard_dead_letters("group", &ids[..3], "ann", "a test")
        .await
        .unwrap();
    store
        .request_replays("group", &ids[3..4], false, false, "ann")
        .await
        .unwrap();
    let kept = |age_max, count_max| Kept {
        age_max,
        count_max,
        rows_max: 2,
    };
    let long = kept(Duration::from_secs(3600), 100);
    let first = store.trim_leavings("group", &long).await.unwrap();
    // The frame of the batch that Kafka doesn't have stays.
    let frames = Trimmed {
        frames: 1,
        ..Trimmed::default()
    };
    assert_eq!(first, Some(frames));
    assert_eq!(store.frames(&key, 2, 2).await.unwrap().len(), 1);
    let none = store.trim_leavings("group", &long).await.unwrap();
    assert_eq!(none, Some(Trimmed::default()));

    // By number, the oldest first, a few at a time; then by age.
    let mut left = vec![];
    for kept in [
        kept(Duration::from_secs(3600), 1),
        kept(Duration::ZERO, 100),
    ] {
        store.trim_leavings("group", &kept).await.unwrap();
        left.push(store.list_dead_letters("group", 10).await.unwrap().len());
    }
    assert_eq!(left, [4, 3]);
    let states: Vec<State> = store
        .list_dead_letters("group", 10)
        .await
        .unwrap()
        .iter()
        .map(|stored| stored.state)
        .collect();
    assert!(!states.contains(&State::Discarded), "{states:?}");
    assert_eq!(
        store.due_replays(&key, 0, 10, 10_000).await.unwrap().len(),
        1
    );

    // One host at a time.
    let mut other = database.connection().await;
    let lock = "SELECT pg_advisory_lock(hashtextextended('taskhost retention group', 0))";
    sqlx::raw_sql(lock).execute(&mut other).await.unwrap();
    assert_eq!(store.trim_leavings("group", &long).await.unwrap(), None);
}

#[tokio::test]
async fn a_page_of_a_large_table_is_found_by_the_index_made_for_it() {
    let database = Database::migrated().await;
    let store = database.store();
    let fill = "
        INSERT INTO dead_letters (group_id, id, topic, partition, record_topic, record_partition, record_offset,
            record_timestamp, value, headers, code, reason, stage, attempts, task_id, plugin_name, plugin_version,
            plugin_digest, failed_at, created_at, state)
        SELECT 'group', gen_random_uuid(), 't' || n % 3, 0, 't', 0, n, 0, '{}', '[]', 'code-' || n % 50, 'r', 'decide',
            1, 'task-' || n % 5000, 'p' || n % 5, '1', 'ab', now(), now() - (50000 - n) * INTERVAL '1 second',
            CASE WHEN n % 10 < 7 THEN 'applied' ELSE 'open' END
        FROM generate_series(1, 50000) n;
        ANALYZE dead_letters";
    sqlx::raw_sql(AssertSqlSafe(fill.to_owned()))
        .execute(&mut database.connection().await)
        .await
        .unwrap();
    let some = |text: &str| Some(text.to_owned());
    let all = Filter::default;
    let cases = [
        (all(), "dead_letters_time"),
        (
            Filter {
                topic: some("t1"),
                ..all()
            },
            "dead_letters_by_topic",
        ),
        (
            Filter {
                code: some("code-7"),
                ..all()
            },
            "dead_letters_by_code",
        ),
        (
            Filter {
                plugin: some("p3"),
                ..all()
            },
            "dead_letters_by_plugin",
        ),
        (
            Filter {
                task: some("task-7"),
                ..all()
            },
            "dead_letters_by_task",
        ),
        (
            Filter {
                states: vec![State::Parked],
                ..all()
            },
            "dead_letters_unsettled",
        ),
    ];
    for (filter, index) in cases {
        let page = store
            .dead_letter_page("group", &filter, None, 5)
            .await
            .unwrap();
        let after = page.last().map(|(_, place)| *place);
        for after in [None, after] {
            let plan = store
                .explain_dead_letter_page("group", &filter, after.as_ref(), 50)
                .await
                .unwrap();
            assert!(plan.contains(index), "{filter:?}\n{plan}");
            assert!(!plan.contains("Sort"), "{filter:?}\n{plan}");
        }
    }
    // Page by page, each once, and the last first.
    let filter = Filter {
        code: some("code-7"),
        ..all()
    };
    let (mut after, mut offsets) = (None, Vec::new());
    loop {
        let page = store
            .dead_letter_page("group", &filter, after.as_ref(), 300)
            .await
            .unwrap();
        let Some((_, place)) = page.last() else { break };
        after = Some(*place);
        let found = page
            .iter()
            .map(|(stored, _)| stored.letter.message.position.offset);
        offsets.extend(found);
    }
    assert_eq!(offsets.len(), 1000);
    assert!(offsets.is_sorted_by(|one, next| one > next));
    assert_eq!(
        store.count_dead_letters("group", &filter).await.unwrap(),
        1000
    );
}
