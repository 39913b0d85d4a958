//! A queue that was analysed while it was empty, and then filled: the planner takes its thousands of rows for one. What the
//! host asks meanwhile has to take time in proportion to the rows; each of these statements once read the whole queue, and
//! did the rest of its work anew for each row.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use taskhost::store::{Epoch, Kept, Question, Settings, Store};
use taskhost_core::batch::{Postponed, WriteSet};
use taskhost_core::replay::{End, Replayed};
use taskhost_core::task::TaskId;
use uuid::Uuid;

use crate::support::*;

/// Rows of each kind.
const ROWS: i64 = 20_000;
/// What one statement is about.
const SOME: i64 = 300;

const MESSAGE: i64 = 0x1000_0000;
const HELD: i64 = 0x2000_0000;
const LETTER: i64 = 0x3000_0000;
const REPLAY: i64 = 0x4000_0000;

/// Message `n` is of task `n / 2`: the even ones are the first of their task. Every replay stands for a dead letter.
const FILL: &str = "
INSERT INTO wakeups (group_id, topic, partition, id, kind, task_id, route, due, sequence, attempt, since, reason, cause, why)
SELECT 'group', 'task-status', 0, lpad(to_hex($message + n), 32, '0')::uuid, 'deferred', 'task-' || n / 2, 'task-status',
    CASE WHEN n % 2 = 0 THEN now() END, n, 0, now(), '', '', CASE WHEN n % 2 = 0 THEN 'deferral' ELSE 'turn' END
FROM generate_series(0, $rows - 1) n;
INSERT INTO wakeups (group_id, topic, partition, id, kind, task_id, route, due, sequence, attempt, since, reason, cause, why)
SELECT 'group', 'task-status', 1, lpad(to_hex($held + n), 32, '0')::uuid, 'deferred', 'held-' || n, 'task-status',
    now(), n, 0, now(), '', '', 'held'
FROM generate_series(0, $some - 1) n;
INSERT INTO dead_letters (group_id, id, topic, partition, record_topic, record_partition, record_offset, record_timestamp,
    headers, code, reason, stage, attempts, failed_at, state, wakeup)
SELECT 'group', lpad(to_hex($letter + n), 32, '0')::uuid, 'task-status', 0, 'task-status', 0, n, 0, '[]', 'c', 'r', 'decide',
    1, now(), 'replaying', lpad(to_hex($replay + n), 32, '0')::uuid
FROM generate_series(0, $rows - 1) n;
INSERT INTO wakeups (group_id, topic, partition, id, kind, task_id, route, sequence, attempt, since, reason, cause)
SELECT 'group', 'task-status', 0, wakeup, 'replay', id::text, '', record_offset, 0, now(), '', ''
FROM dead_letters ORDER BY record_offset";

/// Empties both tables, has them analysed as they are then, with the pages that they keep, and fills them anew.
async fn fill_after_analysis(database: &Database) {
    let mut connection = database.connection().await;
    let fill = [
        ("$message", MESSAGE),
        ("$held", HELD),
        ("$letter", LETTER),
        ("$replay", REPLAY),
        ("$rows", ROWS),
        ("$some", SOME),
    ]
    .iter()
    .fold(FILL.to_owned(), |sql, (name, value)| {
        sql.replace(name, &value.to_string())
    });
    let mut steps = vec![
        "ALTER TABLE wakeups SET (autovacuum_enabled = false)".to_owned(),
        "ALTER TABLE dead_letters SET (autovacuum_enabled = false)".to_owned(),
        fill.clone(),
    ];
    for table in ["wakeups", "dead_letters"] {
        steps.push(format!("DELETE FROM {table}"));
        steps.push(format!("VACUUM (ANALYZE, TRUNCATE false) {table}"));
    }
    steps.push(fill);
    for step in steps {
        sqlx::raw_sql(AssertSqlSafe(step))
            .execute(&mut connection)
            .await
            .unwrap();
    }
}

fn uuid(base: i64, number: i64) -> Uuid {
    Uuid::from_u128(u128::try_from(base + number).unwrap())
}

fn uuids(base: i64, numbers: std::ops::Range<i64>) -> Vec<Uuid> {
    numbers.map(|number| uuid(base, number)).collect()
}

fn count<T>(rows: &[T]) -> i64 {
    i64::try_from(rows.len()).unwrap()
}

#[tokio::test]
async fn a_queue_that_was_analysed_while_it_was_empty_and_filled_since_holds_nobody_up() {
    let database = Database::migrated().await;
    let settings = Settings {
        statement_timeout: Duration::from_secs(2),
        ..settings(&database.url)
    };
    let store = Store::connect(&settings).unwrap();
    let epoch = started(&store, &key(0)).await;
    started(&store, &key(1)).await;
    fill_after_analysis(&database).await;
    let tasks: Vec<TaskId> = (0..SOME)
        .map(|number| id(&format!("task-{number}")))
        .collect();

    // Hints.
    let woken = store.wake_tasks(&tasks, NOW).await.unwrap();
    assert_eq!(woken, [key(0)]);
    let released = store.release_held("group", "task-status", NOW).await;
    assert_eq!(released.unwrap(), [key(1)]);

    // What can't be decided.
    let last = uuids(MESSAGE, ROWS - SOME..ROWS);
    let rows: Vec<(Uuid, &str)> = last.iter().map(|id| (*id, "no plugin")).collect();
    let stranded = store.strand(&key(0), epoch, &rows, NOW).await.unwrap();
    assert_eq!(i64::try_from(stranded).unwrap(), SOME);
    let reason = Some("no plugin".to_owned());
    let stranded = store.count_stranded(&key(0)).await.unwrap();
    assert_eq!(stranded, (SOME, reason));

    // A batch that decides the first message of some tasks and puts others off.
    let due = store.due_chains(&key(0), NOW, 500).await.unwrap();
    // Those that were woken, and those that were stranded.
    assert_eq!(count(&due.chains), SOME + SOME / 2);
    let rows = due.chains.iter().map(|chain| count(&chain.rows));
    assert_eq!(rows.sum::<i64>(), 2 * (SOME + SOME / 2));
    let told = store.settle_tasks(&tasks, NOW).await.unwrap();
    assert_eq!(told, [], "each has its turn");
    assert_eq!(store.settle_chains(&key(0), NOW).await.unwrap(), 0);
    let question = Question {
        epoch,
        tasks: &tasks,
        rows: &uuids(MESSAGE, 0..SOME),
        letters: &[],
        ahead: true,
    };
    let read = store.read(&key(0), question).await.unwrap();
    assert_eq!(i64::try_from(read.ahead.len()).unwrap(), SOME / 2);
    let put_off = |number: i64| Postponed {
        id: uuid(MESSAGE, 2 * number),
        task_id: id(&format!("task-{number}")),
        ..postponed(&waiting("any", 0, None), NOW)
    };
    let set = WriteSet {
        done: (0..SOME).map(|number| uuid(MESSAGE, 2 * number)).collect(),
        settled: (0..2 * SOME)
            .map(|number| id(&format!("task-{number}")))
            .collect(),
        postponed: (SOME..2 * SOME).map(put_off).collect(),
        timers: tasks
            .iter()
            .map(|task| ((task.clone(), "timer".to_owned()), None))
            .collect(),
        ..WriteSet::default()
    };
    run(&store, &key(0), epoch, &set).await;
    let due = store.due_chains(&key(0), NOW, 500).await.unwrap();
    let mut first: Vec<i64> = due
        .chains
        .iter()
        .map(|chain| chain.rows[0].rank.sequence)
        .collect();
    first.sort_unstable();
    let settled = Vec::from_iter((0..SOME).map(|number| 2 * number + 1));
    assert_eq!(
        first[..],
        [
            &settled[..],
            &Vec::from_iter((SOME..500).map(|number| 2 * number))[..]
        ]
        .concat()
    );

    replays(&store, epoch).await;
}

async fn replays(store: &Store, epoch: Epoch) {
    let due = store.due_replays(&key(0), NOW, 500, 1 << 20).await.unwrap();
    let found: Vec<i64> = due
        .iter()
        .map(|replay| replay.letter.letter.message.position.offset)
        .collect();
    assert_eq!(found, Vec::from_iter(0..500));

    let ended = |number: i64| Replayed {
        letter: uuid(LETTER, number),
        end: End::Ignored,
    };
    let set = WriteSet {
        done: uuids(REPLAY, 0..SOME),
        replayed: (0..SOME).map(ended).collect(),
        ..WriteSet::default()
    };
    run(store, &key(0), epoch, &set).await;

    let some = uuids(LETTER, SOME..2 * SOME);
    let called_back = store.cancel_replays("group", &some, 3, "ann").await;
    assert_eq!(count(&called_back.unwrap()), SOME);
    let asked = store.request_replays("group", &some, false, false, "ann");
    assert_eq!(count(&asked.await.unwrap().ids), SOME);
    let kept = Kept {
        age_max: Duration::ZERO,
        count_max: 1,
        rows_max: 500,
    };
    let trimmed = store.trim_leavings("group", &kept).await.unwrap().unwrap();
    assert_eq!(trimmed.dead_letters, set.done.len() as u64);
}
