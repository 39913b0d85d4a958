//! Rows of before migration 11 get their place in the new order, and long chains cost no more than short ones.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use taskhost::store::{Question, Store};
use taskhost_core::batch::WriteSet;
use taskhost_core::waiting::Rank;

use crate::support::*;

/// The migration.
const NEW: i64 = 11;

/// Of `t`, which exists, and `m`, which doesn't: a deferral and what waits behind it. Letters of this partition's log and
/// of elsewhere; the replay of one waits, and those of two are asked for.
const OLD: &str = "
INSERT INTO tasks (id, type, status, data, version, created_at, updated_at) VALUES ('t', 't', 's', '{}', 1, now(), now());
INSERT INTO progress (group_id, topic, partition, topic_id, next_offset) VALUES ('group', 'task-status', 0, gen_random_uuid(), 9);
INSERT INTO dead_letters (group_id, id, topic, partition, record_topic, record_partition, record_offset, record_timestamp,
    headers, code, reason, stage, attempts, failed_at, state, wakeup, imported, source)
SELECT 'group', gen_random_uuid(), 'task-status', 0, t, p, o, 0, '[]', 'c', 'r', 'decide', 1, now(), s, w, i, k
FROM (VALUES
    ('task-status', 0, 1, 'waiting', '00000000-0000-0000-0000-000000000006'::uuid, NULL, 'record'),
    ('task-status', 0, 2, 'replaying', '00000000-0000-0000-0000-000000000007', NULL, 'record'),
    ('task-status', 0, 3, 'replaying', '00000000-0000-0000-0000-000000000008', 'a file', 'record'),
    ('task-status', 1, 4, 'open', NULL, NULL, 'record'),
    ('task-status', 0, 5, 'open', NULL, NULL, 'timer')) AS l (t, p, o, s, w, i, k);
INSERT INTO wakeups (group_id, topic, partition, id, kind, task_id, route, due, sequence, attempt, since, reason, cause, why)
SELECT 'group', 'task-status', 0, lpad(n::text, 32, '0')::uuid, k, t, 'r', d, s, 0, now(), '', '', w
FROM (VALUES
    (1, 'deferred', 't', '2100-01-01Z'::timestamptz, 10, 'deferral'), (2, 'deferred', 't', NULL, 11, 'turn'),
    (3, 'deferred', 'm', '2100-01-01Z', 12, 'deferral'), (4, 'deferred', 'm', NULL, 13, 'turn'),
    (5, 'deferred', 'm', NULL, 14, 'turn'), (6, 'deferred', 'm', NULL, 8, 'deadline'),
    (7, 'replay', 't', NULL, 2, 'turn'), (8, 'replay', 't', NULL, 3, 'turn')) AS w (n, k, t, d, s, w);
UPDATE wakeups SET due = '2100-01-01Z' WHERE why = 'deadline'";

/// A connection to a database that had these rows before the migration.
async fn migrated_with(database: &Database, rows: &str) -> PgConnection {
    let mut connection = database.connection().await;
    for migration in taskhost::store::migrations()
        .iter()
        .filter(|it| it.version <= NEW)
    {
        let sql = migration.sql.as_str();
        let sql = match migration.version {
            NEW => format!("{rows};{sql}"),
            _ => sql.to_owned(),
        };
        let all = sqlx::raw_sql(AssertSqlSafe(sql));
        all.execute(&mut connection).await.unwrap();
    }
    connection
}

#[tokio::test]
async fn rows_of_before_get_their_place() {
    let database = Database::empty().await;
    let mut connection = migrated_with(&database, OLD).await;
    let sql = "SELECT right(id::text, 1) || ' ' || why || ' ' || CASE sequence WHEN 9223372036854775807 THEN 'last'
                   ELSE sequence::text END || ' ' || CASE place WHEN 0 THEN 'first' ELSE 'later' END || ' '
                   || CASE WHEN due IS NULL THEN 'none' WHEN due <= now() THEN 'now' ELSE 'then' END || ' '
                   || (counts_from IS NOT NULL AND counts_from = due)
               FROM wakeups ORDER BY id";
    let rows: Vec<String> = sqlx::query_scalar(sql)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let expected = [
        "1 deferral 10 first then true",
        "2 turn 11 first none false",
        "3 task-missing 12 first then true",
        "4 turn 13 first none false",
        "5 turn 14 first none false",
        "6 deadline 8 later then false",
        "7 turn 2 later none false",
        "8 turn last later none false",
    ];
    assert_eq!(rows, expected);
    let sql = "SELECT sequence FROM dead_letters ORDER BY record_offset";
    let places: Vec<Option<i64>> = sqlx::query_scalar(sql)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(places, [Some(1), Some(2), None, None, None]);

    // Without the earlier replay, what waits behind a deferral without a task has its turn.
    let other = Database::empty().await;
    let less = format!("{OLD}; DELETE FROM wakeups WHERE why = 'deadline'");
    let mut connection = migrated_with(&other, &less).await;
    let sql = "SELECT sequence FROM wakeups WHERE due <= now() ORDER BY sequence";
    let now: Vec<i64> = sqlx::query_scalar(sql)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(now, [13]);
}

/// What one task has waiting.
const LONG: i64 = 100_000;

/// How many rows were read so far: sessions say so when they end.
async fn rows_read(store: Store, connection: &mut PgConnection) -> i64 {
    store.close().await;
    drop(store);
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'taskhost-test'";
    for _ in 0..500 {
        let open: i64 = sqlx::query_scalar(open)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        if open == 0 {
            let sql = "SELECT (seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_user_tables
                       WHERE relname = 'wakeups'";
            return sqlx::query_scalar(sql).fetch_one(connection).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the store's sessions don't end");
}

const TIMES: i64 = 8;

#[tokio::test]
async fn a_chain_of_a_hundred_thousand_costs_what_a_short_one_does() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let mut connection = database.connection().await;
    let fill = format!(
        "ALTER TABLE wakeups SET (autovacuum_enabled = false);
         INSERT INTO wakeups (group_id, topic, partition, id, kind, task_id, route, due, sequence, place, attempt, since,
             reason, cause, why)
         SELECT 'group', 'task-status', 0, lpad(to_hex(n), 32, '0')::uuid, 'deferred', 'a', 'r', to_timestamp(n), n, 0, 0,
             now(), '', '', 'task-missing' FROM generate_series(1, {LONG}) n"
    );
    connection.execute(AssertSqlSafe(fill)).await.unwrap();
    let late = i64::MAX / 4096;
    let before = rows_read(store, &mut connection).await;

    let store = database.store();
    let tasks = [id("a")];
    let question = Question {
        epoch,
        tasks: &tasks,
        rows: &[],
        letters: &[],
        ahead: true,
    };
    for _ in 0..TIMES {
        let found = store.read(&key(0), question).await.unwrap().ahead;
        assert_eq!(found[&tasks[0]].missing, Some(Rank::of_record(1)));
        let due = store.due_chains(&key(0), late, 50).await.unwrap();
        assert_eq!(due.chains[0].rows.len(), 50);
        assert!(store.wake_tasks(&tasks, 0).await.unwrap().len() <= 1);
        assert_eq!(store.settle_tasks(&tasks, 0).await.unwrap(), []);
    }
    let free = rows_read(store, &mut connection).await - before;
    assert!((TIMES..TIMES * 200).contains(&free), "{free} rows read");

    let store = database.store();
    run(&store, &key(0), epoch, &creates(&["a"])).await;
    for _ in 0..TIMES {
        let due = store.due_chains(&key(0), late, 50).await.unwrap();
        assert_eq!(due.chains[0].rows.len(), 51);
        assert_eq!(store.settle_chains(&key(0), 0).await.unwrap(), 0);
        let mut batch = store.begin(&key(0), epoch).await.unwrap();
        let set = WriteSet {
            settled: tasks.clone().into(),
            ..WriteSet::default()
        };
        batch.write(&set, 0).await.unwrap();
        batch.rollback().await;
    }
    let blocking = rows_read(store, &mut connection).await - before - free;
    let most = TIMES * 400;
    assert!((TIMES..most).contains(&blocking), "{blocking} rows read");
}
