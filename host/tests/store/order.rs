//! The order in which messages of a task wait: what blocks, whose turn it is, and what a dead letter holds.

use std::collections::HashMap;

use taskhost::store::{Question, Store};
use taskhost_core::batch::{Wakeup, WriteSet};
use taskhost_core::dead_letter::DeadLetter;
use taskhost_core::reset::Plan;
use taskhost_core::task::TaskId;
use taskhost_core::waiting::{Ahead, Rank, Why};
use uuid::Uuid;

use crate::support::*;

/// So late that nothing is due by itself.
const LATER: i64 = NOW + 1_000_000;

/// What its plugin deferred while its task had no row.
fn missing(of: &str, offset: i64, due: i64) -> Wakeup {
    Wakeup {
        why: Why::TaskMissing,
        ..waiting(of, offset, Some(due))
    }
}

/// A dead letter that holds its task.
fn holding(of: &str, offset: i64, code: &str) -> DeadLetter {
    DeadLetter {
        code: code.to_owned(),
        task_id: Some(id(of)),
        holds: true,
        ..letter(offset)
    }
}

fn gives_up(letters: Vec<DeadLetter>) -> WriteSet {
    WriteSet {
        dead_letters: letters,
        ..WriteSet::default()
    }
}

/// The due times of a task's messages, by their places; none for one that waits for its turn.
async fn dues(database: &Database, of: &str) -> Vec<(i64, Option<i64>)> {
    let sql = "SELECT sequence, (extract(epoch FROM due) * 1000)::bigint FROM wakeups
               WHERE task_id = $1 AND kind = 'deferred' ORDER BY topic, partition, sequence, place";
    sqlx::query_as(sql)
        .bind(of)
        .fetch_all(&mut database.connection().await)
        .await
        .unwrap()
}

async fn ahead(
    store: &Store,
    tasks: &[TaskId],
    rows: &[Uuid],
    letters: &[Uuid],
) -> HashMap<TaskId, Ahead> {
    let claim = store.claim(&key(0), &own("host-a")).await.unwrap();
    let question = Question {
        epoch: claim.epoch,
        tasks,
        rows,
        letters,
        ahead: true,
    };
    store.read(&key(0), question).await.unwrap().ahead
}

fn at(blocking: Option<i64>, missing: Option<i64>) -> Ahead {
    Ahead {
        blocking: blocking.map(Rank::of_record),
        missing: missing.map(Rank::of_record),
    }
}

#[tokio::test]
async fn what_is_ahead_is_the_first_of_either_kind_that_the_batch_does_not_have() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let set = begins(vec![
        missing("a", 1, LATER),
        missing("a", 2, LATER),
        waiting("a", 3, None),
        waiting("a", 4, None),
        missing("b", 5, LATER),
    ]);
    run(&store, &key(0), epoch, &set).await;
    let letters = vec![
        holding("c", 6, "no-way"),
        holding("c", 7, "task-missing"),
        holding("a", 8, "no-way"),
        letter(9),
    ];
    run(&store, &key(0), epoch, &gives_up(letters)).await;
    let tasks = ["a", "b", "c", "d"].map(id);
    let none = ahead(&store, &tasks, &[], &[]).await;
    let expected = [
        (id("a"), at(Some(3), Some(1))),
        (id("b"), at(None, Some(5))),
        (id("c"), at(Some(6), Some(7))),
    ];
    assert_eq!(none, expected.into());
    let rows = [("a", 1), ("a", 3), ("b", 5)].map(|(of, offset)| waiting(of, offset, None).id);
    let some = ahead(&store, &tasks, &rows, &[letter(6).id]).await;
    let expected = [
        (id("a"), at(Some(4), Some(2))),
        (id("c"), at(None, Some(7))),
    ];
    assert_eq!(some, expected.into());
    let claim = store.claim(&key(0), &own("host-a")).await.unwrap();
    assert!(claim.holding);
    let claim = store.claim(&key(1), &own("host-a")).await.unwrap();
    assert!(!claim.holding, "another partition");
}

#[tokio::test]
async fn the_first_that_is_not_free_gets_its_turn_and_once_the_task_exists_none_is_free() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let mut set = begins(vec![
        missing("a", 1, LATER),
        waiting("a", 2, None),
        waiting("a", 3, None),
    ]);
    run(&store, &key(0), epoch, &set).await;
    let before = [(1, Some(LATER)), (2, Some(NOW)), (3, None)];
    assert_eq!(dues(&database, "a").await, before);
    let found = store.due_chains(&key(0), NOW, 10).await.unwrap();
    assert!(!found.chains[0].exists);
    assert_eq!(
        sequences(&found.chains[0]),
        [2, 3],
        "what is free is not due"
    );

    // The batch that creates the task.
    set = creates(&["a"]);
    set.settled = [id("a")].into();
    set.turned = [waiting("a", 2, None).id].into();
    run(&store, &key(0), epoch, &set).await;
    assert_eq!(
        dues(&database, "a").await,
        [(1, Some(NOW)), (2, None), (3, None)]
    );
    let found = store.due_chains(&key(0), NOW, 10).await.unwrap();
    assert!(found.chains[0].exists);
    assert_eq!(sequences(&found.chains[0]), [1, 2, 3]);
    let rows = store
        .waiting_rows(&key(0), &[waiting("a", 2, None).id])
        .await
        .unwrap();
    assert_eq!(
        (rows[0].why, rows[0].due, rows[0].counts_from),
        (Why::Turn, None, None)
    );
}

#[tokio::test]
async fn the_rows_behind_a_chains_head_are_read_if_it_may_be_decided() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let set = begins(vec![
        missing("a", 1, NOW),
        missing("a", 2, LATER),
        waiting("a", 3, Some(LATER)),
        missing("a", 4, NOW - 1),
        waiting("a", 5, None),
    ]);
    run(&store, &key(0), epoch, &set).await;
    // The due ones, and the head that is not due.
    assert_eq!(
        due(&store, &key(0), NOW, 10).await,
        [("a".to_owned(), vec![1, 3, 4])]
    );
    assert_eq!(
        due(&store, &key(0), LATER, 10).await,
        [("a".to_owned(), vec![1, 2, 3, 4, 5])]
    );
    let found = store.due_chains(&key(0), NOW, 10).await.unwrap();
    assert!(found.chains[0].rows.iter().all(|row| row.bytes > 300));
}

#[tokio::test]
async fn a_dead_letter_holds_what_is_behind_it_until_it_is_discarded() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let letters = vec![holding("a", 5, "no-way"), holding("b", 6, "task-missing")];
    run(&store, &key(0), epoch, &gives_up(letters)).await;
    let set = begins(vec![
        waiting("a", 3, None),
        waiting("a", 7, None),
        waiting("b", 8, None),
    ]);
    run(&store, &key(0), epoch, &set).await;
    assert_eq!(dues(&database, "a").await, [(3, Some(NOW)), (7, None)]);
    assert_eq!(
        dues(&database, "b").await,
        [(8, Some(NOW))],
        "its task doesn't exist"
    );
    let mut set = WriteSet {
        done: vec![waiting("a", 3, None).id],
        settled: [id("a"), id("b")].into(),
        turned: [waiting("b", 8, None).id].into(),
        ..WriteSet::default()
    };
    set.created.push(task("b", "new", 1));
    run(&store, &key(0), epoch, &set).await;
    for of in ["a", "b"] {
        assert_eq!(dues(&database, of).await.len(), 1);
        assert_eq!(dues(&database, of).await[0].1, None, "{of} is held");
    }
    assert_eq!(store.settle_chains(&key(0), NOW).await.unwrap(), 0);
    let found = store.settle_tasks(&[id("a"), id("b")], NOW).await.unwrap();
    assert_eq!(found, []);

    // Called back it holds as before; discarded it holds no more, and the owner hears of it.
    let mut listener = store.listen().await.unwrap();
    let ids = [letter(5).id, letter(6).id];
    let asked = store
        .request_replays("group", &ids, false, false, "ann")
        .await;
    assert_eq!(asked.unwrap().ids.len(), 2);
    let back = store.cancel_replays("group", &ids, 5, "ann").await;
    assert_eq!(back.unwrap().len(), 2);
    assert_eq!(dues(&database, "a").await[0].1, None);
    let gone = store
        .discard_dead_letters("group", &ids, "ann", "why")
        .await;
    assert_eq!(gone.unwrap().len(), 2);
    for of in ["a", "b"] {
        assert!(
            dues(&database, of).await[0].1.is_some(),
            "{of} has its turn"
        );
    }
    let heard = tokio::time::timeout(std::time::Duration::from_secs(5), listener.next()).await;
    assert_eq!(heard.unwrap().unwrap(), taskhost::store::Heard::Due(key(0)));
}

#[tokio::test]
async fn what_lost_its_turn_to_a_crash_gets_it_at_the_next_claim() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    // A batch that settles nothing leaves heads without a time.
    let mut set = begins(vec![
        waiting("a", 1, None),
        waiting("a", 2, None),
        missing("b", 3, LATER),
        waiting("b", 4, None),
        waiting("c", 5, Some(LATER)),
        waiting("c", 6, None),
    ]);
    set.settled.clear();
    run(&store, &key(0), epoch, &set).await;
    assert_eq!(store.settle_chains(&key(0), NOW).await.unwrap(), 2);
    assert_eq!(dues(&database, "a").await, [(1, Some(NOW)), (2, None)]);
    assert_eq!(
        dues(&database, "b").await,
        [(3, Some(LATER)), (4, Some(NOW))]
    );
    assert_eq!(dues(&database, "c").await, [(5, Some(LATER)), (6, None)]);
}

#[tokio::test]
async fn a_change_of_a_task_wakes_the_first_message_of_each_partition_only() {
    let database = Database::migrated().await;
    let store = database.store();
    for partition in 0..3 {
        let epoch = started(&store, &key(partition)).await;
        let offset = i64::from(10 * partition);
        let first = match partition {
            2 => Wakeup {
                why: Why::Deadline,
                ..waiting("a", offset, Some(LATER))
            },
            _ => missing("a", offset, LATER),
        };
        let set = begins(vec![first, missing("a", offset + 1, LATER)]);
        run(&store, &key(partition), epoch, &set).await;
    }
    let woken = store.wake_tasks(&[id("a")], NOW).await.unwrap();
    assert_eq!(woken, [key(0), key(1)]);
    let later = Some(LATER);
    let expected = [
        (0, Some(NOW)),
        (1, later),
        (10, Some(NOW)),
        (11, later),
        (20, later),
        (21, later),
    ];
    assert_eq!(dues(&database, "a").await, expected);

    // The look after the commit that created it: the first is due where it waits for the task.
    let epoch = started_again(&store).await;
    run(&store, &key(0), epoch, &creates(&["a"])).await;
    let sql = "UPDATE wakeups SET due = to_timestamp($1 / 1000.0)";
    let mut connection = database.connection().await;
    sqlx::query(sql)
        .bind(LATER as f64)
        .execute(&mut connection)
        .await
        .unwrap();
    let settled = store.settle_tasks(&[id("a")], NOW).await.unwrap();
    assert_eq!(settled, [key(0), key(1)]);
}

async fn started_again(store: &Store) -> i64 {
    store.claim(&key(0), &own("host-a")).await.unwrap().epoch
}

#[tokio::test]
async fn a_topic_that_is_made_again_comes_behind_all_that_waits_however_often() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    run(
        &store,
        &key(0),
        epoch,
        &begins(vec![waiting("a", 3, None), waiting("a", 5, None)]),
    )
    .await;
    run(
        &store,
        &key(0),
        epoch,
        &gives_up(vec![holding("a", 4, "no-way")]),
    )
    .await;
    let ids = [letter(4).id];
    store
        .request_replays("group", &ids, false, false, "ann")
        .await
        .unwrap();
    let reset = async |topic_id: u128| {
        let seen = store.snapshot("group").await.unwrap()[0].progress;
        let plan = Plan {
            next_offset: 0,
            batch: seen.batch,
            published: seen.batch,
            skipped: 0..0,
            gone: 0..0,
            repeated: 0..0,
            publishes: 0..0,
            may_be_sent_twice: false,
            drops: 0..0,
        };
        let id = Uuid::from_u128(topic_id);
        store.reset(&key(0), seen, &plan, id).await.unwrap();
    };
    let places = async || -> Vec<i64> {
        let sql = "SELECT sequence FROM wakeups UNION ALL SELECT sequence FROM dead_letters ORDER BY sequence";
        let mut connection = database.connection().await;
        sqlx::query_scalar(sql)
            .fetch_all(&mut connection)
            .await
            .unwrap()
    };
    assert_eq!(places().await, [3, 4, 4, 5]);
    reset(7).await;
    assert_eq!(places().await, [3, 4, 4, 5], "the same topic");
    reset(8).await;
    assert_eq!(places().await, [-3, -2, -2, -1]);
    let epoch = started_again(&store).await;
    run(&store, &key(0), epoch, &begins(vec![waiting("a", 1, None)])).await;
    reset(9).await;
    assert_eq!(places().await, [-5, -4, -4, -3, -1]);
}

#[tokio::test]
async fn replays_are_taken_by_their_place_and_imported_ones_in_the_order_of_asking() {
    let database = Database::migrated().await;
    let (store, key) = (database.store(), key(0));
    let epoch = started(&store, &key).await;
    let mut own = gives_up(vec![letter(2), letter(1)]);
    own.counts.dead_letters = 7;
    run(&store, &key, epoch, &own).await;
    let imported = |offset| {
        let letter = DeadLetter {
            sequence: None,
            ..letter(offset)
        };
        (letter, format!("t.dlq[0]@{offset}"))
    };
    let some = [imported(50), imported(40)];
    store.import_dead_letters(&key, &some).await.unwrap();
    for offset in [50, 2, 40, 1] {
        let ids = [letter(offset).id];
        store
            .request_replays("group", &ids, false, false, "ann")
            .await
            .unwrap();
    }
    let due = store.due_replays(&key, NOW, 10, 1 << 20).await.unwrap();
    let offsets: Vec<_> = due
        .iter()
        .map(|one| one.letter.letter.message.position.offset)
        .collect();
    assert_eq!(offsets, [1, 2, 50, 40]);
    let ranks: Vec<_> = due.iter().map(|one| one.wakeup.rank).collect();
    assert_eq!(ranks[..2], [Rank::of_record(1), Rank::of_record(2)]);
    assert_eq!(
        (ranks[2].sequence, ranks[3].sequence),
        (6, 6),
        "the last that was decided"
    );
    assert!(0 < ranks[2].place && ranks[2].place < ranks[3].place);
    let two = store.due_replays(&key, NOW, 10, 600).await.unwrap();
    assert_eq!(two.len(), 2, "300 bytes each");
}
