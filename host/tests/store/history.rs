//! The form of the history: what decided each event, and the partitions by month.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use taskhost::store::{Disposition, Error, Store};
use taskhost_core::batch::WriteSet;
use taskhost_core::task::{Basis, RecordedDecider};

use crate::migrations::{earlier, execute, one, user_without_rights};
use crate::support::*;

/// A set with a task's creation and its event.
fn creation(task_id: &str) -> WriteSet {
    let task = task(task_id, "new", 1);
    WriteSet {
        events: vec![event(&task, 0, 1)],
        created: vec![task],
        ..WriteSet::default()
    }
}

async fn write(store: &Store, epoch: i64, set: &WriteSet) -> Result<(), Error> {
    let mut batch = store.begin(&key(0), epoch).await?;
    match batch.write(set, NOW).await {
        Ok(()) => drop(finish(batch, set).await),
        Err(error) => {
            batch.rollback().await;
            return Err(error);
        }
    }
    Ok(())
}

/// Each partition with its upper bound, in order.
const PARTITIONS: &str = "
SELECT c.relname || ' ' || substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM .*') FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'task_events'::regclass ORDER BY c.relname";

#[tokio::test]
async fn partitions_are_made_ahead_without_a_gap_and_once_however_many_hosts_look() {
    let database = Database::migrated().await;
    let mut hosts = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let store = database.store();
        hosts.spawn(async move { store.make_partitions().await.unwrap() });
    }
    let made: Vec<String> = hosts
        .join_all()
        .await
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    let all: BTreeSet<&String> = made.iter().collect();
    assert_eq!((made.len(), all.len()), (3, 3), "{made:?}");
    assert_eq!(
        database.store().make_partitions().await.unwrap(),
        Some(Vec::new())
    );

    let mut connection = database.connection().await;
    execute(&mut connection, "SET TimeZone = 'UTC'").await;
    let partitions: Vec<String> = sqlx::query_scalar(PARTITIONS)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let bounds: Vec<Vec<&str>> = partitions
        .iter()
        .map(|it| it.split('\'').collect())
        .collect();
    let (first, months) = bounds.split_last().unwrap();
    assert!(first[0].contains("MINVALUE"), "{partitions:?}");
    let mut until = first[1];
    for month in months {
        assert_eq!(month[1], until, "{partitions:?}");
        until = month[3];
    }
    let end = "SELECT (date_trunc('month', now()) + interval '4 months')::text";
    let end: String = one(&mut connection, end).await;
    assert_eq!(until, end);
}

#[tokio::test]
async fn where_partitions_are_there_no_right_is_needed_and_where_not_the_error_says_what_to_do() {
    let database = Database::migrated().await;
    let mut connection = database.connection().await;
    let settings = user_without_rights(&mut connection, &database).await;
    let store = Store::connect(&settings).unwrap();
    let refused = store.make_partitions().await.unwrap_err();
    assert_eq!(refused.disposition(), Disposition::Trouble, "{refused}");
    database.store().make_partitions().await.unwrap();
    assert_eq!(store.make_partitions().await.unwrap(), Some(Vec::new()));
    // The rights on the parent are enough to write, in any month.
    let epoch = started(&store, &key(0)).await;
    write(&store, epoch, &creation("a")).await.unwrap();
    let next = "INSERT INTO task_events (task_id, version, number, kind, to_status, data, at, cause_topic, cause_partition,
            cause_offset, cause, trace_id, stored_at)
        SELECT task_id, 2, number, kind, to_status, data, at, cause_topic, cause_partition, cause_offset, cause, trace_id,
            now() + interval '1 month' FROM task_events";
    let role = settings.url.split(['/', ':']).nth(3).unwrap();
    execute(
        &mut connection,
        &format!("SET ROLE {role}; {next}; RESET ROLE"),
    )
    .await;
    let (_, events) = store.show_task(&id("a")).await.unwrap().unwrap();
    assert_eq!(events.len(), 2);
}

#[tokio::test]
async fn a_missing_partition_is_trouble_and_no_messages_fault() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let mut connection = database.connection().await;
    execute(
        &mut connection,
        "ALTER TABLE task_events DETACH PARTITION task_events_first",
    )
    .await;
    let refused = write(&store, epoch, &creation("a")).await.unwrap_err();
    assert!(
        matches!(&refused, Error::NoPartition { table } if table == "task_events"),
        "{refused:?}"
    );
    assert_eq!(refused.disposition(), Disposition::Trouble);
    assert!(
        refused.to_string().contains("taskhost migrate"),
        "{refused}"
    );
    assert_eq!(
        store
            .make_partitions()
            .await
            .unwrap()
            .map(|made| made.len()),
        Some(4)
    );
    write(&store, epoch, &creation("a")).await.unwrap();
    assert_eq!(store.show_task(&id("a")).await.unwrap().unwrap().1.len(), 1);
}

#[tokio::test]
async fn what_decided_is_stored_once_and_comes_back_with_each_event() {
    let database = Database::migrated().await;
    let (store, other) = (database.store(), database.store());
    let epoch = started(&store, &key(0)).await;
    let mut set = creation("a");
    set.created.push(task("b", "new", 1));
    let mut unknown = event(&set.created[1], 0, 2);
    unknown.basis = None;
    set.events.push(unknown);
    write(&store, epoch, &set).await.unwrap();
    write(&other, epoch, &creation("c")).await.unwrap();
    let mut changed = creation("d");
    changed.events[0].basis = Some(Basis {
        decider: std::sync::Arc::new(RecordedDecider {
            config: "{\"a\": 2}".into(),
            ..(*decider()).clone()
        }),
        attempt: 0,
        seed: uuid::Uuid::from_u128(1),
    });
    write(&store, epoch, &changed).await.unwrap();

    for (task, events) in [("a", &set.events[..1]), ("d", &changed.events[..])] {
        let (_, stored) = store.show_task(&id(task)).await.unwrap().unwrap();
        let stored: Vec<_> = stored.into_iter().map(|stored| stored.event).collect();
        assert_eq!(stored, events);
    }
    let (_, stored) = store.show_task(&id("b")).await.unwrap().unwrap();
    assert_eq!(stored[0].event.basis, None);
    let mut connection = database.connection().await;
    let deciders: i64 = one(&mut connection, "SELECT count(*) FROM deciders").await;
    assert_eq!(deciders, 2);
    // What a failover lost is stored again.
    execute(&mut connection, "TRUNCATE deciders").await;
    store.renew();
    write(&store, epoch, &creation("e")).await.unwrap();
    let (_, stored) = store.show_task(&id("e")).await.unwrap().unwrap();
    assert_eq!(stored[0].event.basis, creation("e").events[0].basis);
}

#[tokio::test]
async fn a_history_of_before_is_the_first_partition_and_is_read_with_its_plugin() {
    let database = Database::empty().await;
    let mut connection = earlier(&database).await;
    // A clock that was wrong.
    let late = "INSERT INTO task_events SELECT task_id, 2, number, 'late', from_status, to_status, data, at, cause_topic,
        cause_partition, cause_offset, '\\x00', plugin_name, plugin_version, plugin_digest, trace_id, NULL, now() + interval '70 days'
        FROM task_events";
    execute(&mut connection, late).await;
    let old = "SELECT relfilenode FROM pg_class WHERE oid = 'task_events'::regclass";
    let old: sqlx::postgres::types::Oid = one(&mut connection, old).await;
    let store = database.store();
    store.migrate().await.unwrap();
    store.make_partitions().await.unwrap();
    let mut connection = database.connection().await;
    let new = "SELECT relfilenode FROM pg_class WHERE oid = 'task_events_first'::regclass";
    assert_eq!(
        one::<sqlx::postgres::types::Oid>(&mut connection, new).await,
        old,
        "nothing is copied"
    );
    let (_, events) = store.show_task(&id("t")).await.unwrap().unwrap();
    let kinds: Vec<&str> = events.iter().map(|it| it.event.kind.as_str()).collect();
    assert_eq!(kinds, ["task.created", "late"]);
    assert_eq!(events[0].event.plugin.name, "p");
    assert_eq!(events[0].event.basis, None);

    // One small index is what finds a task's history, in each partition.
    execute(&mut connection, "SET enable_seqscan = off").await;
    let plan = "EXPLAIN SELECT * FROM task_events
                WHERE hashtextextended(task_id, 0) = hashtextextended('t', 0) AND task_id = 't'";
    let plan: Vec<String> = sqlx::query_scalar(plan)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let scans = plan
        .iter()
        .filter(|line| line.contains("Index Scan"))
        .count();
    assert!(
        scans > 1 && plan.iter().all(|line| !line.contains("Seq Scan")),
        "{plan:?}"
    );
}

#[tokio::test]
async fn an_index_whose_concurrent_build_was_interrupted_is_built_again() {
    let database = Database::empty().await;
    let mut connection = earlier(&database).await;
    let mut writer = PgConnection::connect(&database.url).await.unwrap();
    execute(
        &mut writer,
        "BEGIN; LOCK TABLE task_events IN ROW EXCLUSIVE MODE",
    )
    .await;
    execute(&mut connection, "SET statement_timeout = 300").await;
    let build = "CREATE INDEX CONCURRENTLY task_events_of_task ON task_events (hashtextextended(task_id, 0))";
    let interrupted = sqlx::query(AssertSqlSafe(build))
        .execute(&mut connection)
        .await;
    assert!(interrupted.is_err());
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(one::<i64>(&mut connection, invalid).await, 1);
    execute(&mut writer, "COMMIT").await;
    database.store().migrate().await.unwrap();
    assert_eq!(one::<i64>(&mut connection, invalid).await, 0);
}
