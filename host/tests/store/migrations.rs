//! The schema: migrated once however many start, refused when it is newer, and moved from where hosts of before had it.

use std::collections::BTreeSet;

use sqlx::migrate::{Migrate as _, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use taskhost::config::SchemaName;
use taskhost::store::{Disposition, Error, Settings, Store};

use crate::support::*;

/// The last migration of the hosts that had no schema of their own.
const BEFORE: i64 = 11;

#[tokio::test]
async fn hosts_that_start_together_migrate_once() {
    let database = Database::empty().await;
    let before = database.store().schema_state().await.unwrap();
    assert_eq!(before.applied, 0);
    assert!(!before.is_current());
    let mut hosts = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let store = database.store();
        hosts.spawn(async move { store.migrate().await.unwrap() });
    }
    for state in hosts.join_all().await {
        assert!(state.is_current(), "{state:?}");
    }
    assert!(database.store().schema_state().await.unwrap().is_current());
}

#[tokio::test]
async fn a_host_older_than_the_schema_says_so_and_stops_unless_it_may_run_beside_it() {
    let database = Database::migrated().await;
    let mut connection = database.connection().await;
    let newer = "INSERT INTO migrations (version, description, checksum, beside)
                 VALUES (9998, 'from the future', '\\x00', true)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let store = database.store();
    assert!(store.migrate().await.unwrap().is_current());
    let newer = "INSERT INTO migrations (version, description, checksum, beside)
                 VALUES (9999, 'from the future', '\\x00', false)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let refused = store.migrate().await.unwrap_err();
    assert!(matches!(refused, Error::SchemaNewer { version: 9999 }));
    assert!(refused.to_string().contains("newer"), "{refused}");
    let state = store.schema_state().await.unwrap();
    assert!(!state.is_current() && state.applied == 9999);
}

#[tokio::test]
async fn a_migration_that_was_changed_is_refused() {
    let database = Database::migrated().await;
    let mut connection = database.connection().await;
    sqlx::query("UPDATE migrations SET checksum = '\\x00' WHERE version = 1")
        .execute(&mut connection)
        .await
        .unwrap();
    let refused = database.store().migrate().await.unwrap_err();
    assert!(matches!(refused, Error::SchemaChanged { version: 1 }));
}

/// What a host of before has: its migrations only.
fn earlier_host() -> Migrator {
    let known = taskhost::store::migrations().iter();
    Migrator::with_migrations(known.filter(|it| it.version <= BEFORE).cloned().collect())
}

/// A row of every table, but for those of a history.
const ROWS: &str = "
INSERT INTO tasks (id, type, status, data, version, created_at, updated_at) VALUES ('t', 'kind', 'new', '{}', 1, now(), now());
INSERT INTO task_events (task_id, version, number, kind, to_status, data, at, cause_topic, cause_partition, cause_offset,
    cause, plugin_name, plugin_version, plugin_digest, trace_id)
VALUES ('t', 1, 0, 'task.created', 'new', '{}', now(), 'task-status', 0, 4, '\\x00', 'p', '1.0.0', repeat('a', 64), 'trace');
INSERT INTO progress (group_id, topic, partition, topic_id, next_offset, batch)
VALUES ('group', 'task-status', 0, gen_random_uuid(), 9, 3);
INSERT INTO outbox (group_id, topic, partition, batch, frame) VALUES ('group', 'task-status', 0, 3, '\\x00');
INSERT INTO wakeups (group_id, topic, partition, id, kind, task_id, route, sequence, attempt, since, reason, cause)
VALUES ('group', 'task-status', 0, gen_random_uuid(), 'deferred', 't', 'r', 5, 0, now(), '', '');
INSERT INTO dead_letters (group_id, id, topic, partition, record_topic, record_partition, record_offset, record_timestamp,
    headers, code, reason, stage, attempts, failed_at)
VALUES ('group', '00000000-0000-0000-0000-000000000001', 'task-status', 0, 'task-status', 0, 6, 0, '[]', 'c', 'r', 'decide', 1, now());
INSERT INTO dead_letter_edits (group_id, id, number, by, reason)
VALUES ('group', '00000000-0000-0000-0000-000000000001', 1, 'me', 'because');
INSERT INTO plugin_versions (digest, name, version, bytes) VALUES (repeat('a', 64), 'p', '1.0.0', '\\x00');
INSERT INTO activations (route, number, digest, config, by, reason) VALUES ('r', 1, repeat('a', 64), '', 'me', 'because');
INSERT INTO activation_starts (group_id, topic, partition, route, number, first_offset, batch)
VALUES ('group', 'task-status', 0, 'r', 1, 0, 1);
INSERT INTO breaker_orders (route, number, state, by, reason) VALUES ('r', 1, 'closed', 'me', 'because');
INSERT INTO rolled_back_versions (route, digest, config, activation, by, reason) VALUES ('r', 'd', '', 1, 'me', 'because')";

/// The tables with rows above.
const TABLES: usize = 12;

/// A database as hosts of before left it, with a row in every table.
pub(crate) async fn earlier(database: &Database) -> PgConnection {
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let host = earlier_host();
    host.run_direct(None, &mut connection, false).await.unwrap();
    execute(&mut connection, ROWS).await;
    connection
}

pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) {
    let all = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    all.execute(connection).await.unwrap();
}

pub(crate) async fn one<T>(connection: &mut PgConnection, sql: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_database_of_before_is_moved_with_all_its_rows_and_hosts_of_before_refuse_it() {
    let database = Database::empty().await;
    let mut connection = earlier(&database).await;
    let store = database.store();
    let before = store.schema_state().await.unwrap();
    assert_eq!(before.applied, BEFORE);
    assert!(!before.is_current());

    assert!(store.migrate().await.unwrap().is_current());

    let left = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
    let left: String = one(&mut connection, left).await;
    assert_eq!(left, "_sqlx_migrations");
    let moved = "SELECT array_agg(DISTINCT relname::text) FROM pg_class
                 WHERE relnamespace = '\"order\"'::regnamespace AND relkind IN ('r', 'p')";
    let moved: Vec<String> = one(&mut connection, moved).await;
    let moved: BTreeSet<&str> = moved.iter().map(String::as_str).collect();
    let mut found = 0;
    for line in ROWS.lines() {
        let Some(table) = line.strip_prefix("INSERT INTO ") else {
            continue;
        };
        let table = table.split(' ').next().unwrap();
        assert!(moved.contains(table), "{table} is not in {moved:?}");
        let count = format!("SELECT count(*) FROM \"order\".{table}");
        let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(count));
        assert_eq!(
            count.fetch_one(&mut connection).await.unwrap(),
            1,
            "{table}"
        );
        found += 1;
    }
    assert_eq!(found, TABLES);

    let refused = earlier_host()
        .run_direct(None, &mut connection, false)
        .await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, sqlx::migrate::MigrateError::VersionMissing(12)),
        "{refused}"
    );
}

#[tokio::test]
async fn a_database_of_long_before_is_moved_and_then_migrated_step_by_step() {
    let database = Database::empty().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let known = taskhost::store::migrations().iter();
    let host = Migrator::with_migrations(known.filter(|it| it.version <= 5).cloned().collect());
    host.run_direct(None, &mut connection, false).await.unwrap();
    assert!(database.store().migrate().await.unwrap().is_current());
}

#[tokio::test]
async fn hosts_of_now_that_meet_a_database_of_before_move_it_once() {
    let database = Database::empty().await;
    let _connection = earlier(&database).await;
    let mut hosts = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = database.store();
        hosts.spawn(async move { store.migrate().await.unwrap() });
    }
    for state in hosts.join_all().await {
        assert!(state.is_current(), "{state:?}");
    }
}

#[tokio::test]
async fn the_migrations_of_another_program_are_left_alone() {
    let database = Database::empty().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    connection
        .ensure_migrations_table("_sqlx_migrations")
        .await
        .unwrap();
    execute(
        &mut connection,
        "CREATE TABLE tasks (mine int); INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (1, 'theirs', true, '\\x00', 0)",
    )
    .await;
    assert!(database.store().migrate().await.unwrap().is_current());
    let theirs: i64 = one(&mut connection, "SELECT count(*) FROM _sqlx_migrations").await;
    assert_eq!(theirs, 1);
    execute(&mut connection, "SELECT mine FROM public.tasks").await;
}

#[tokio::test]
async fn tables_of_before_are_found_wherever_they_are_and_two_of_them_are_not_guessed_at() {
    let database = Database::empty().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    for schema in ["one", "two"] {
        execute(
            &mut connection,
            &format!("CREATE SCHEMA {schema}; SET search_path TO {schema}"),
        )
        .await;
        earlier_host()
            .run_direct(None, &mut connection, false)
            .await
            .unwrap();
    }
    let refused = database.store().migrate().await.unwrap_err();
    assert!(
        matches!(&refused, Error::EarlierAmbiguous { schemas } if schemas == &["one", "two"]),
        "{refused}"
    );
    execute(&mut connection, "DROP SCHEMA one CASCADE").await;
    assert!(database.store().migrate().await.unwrap().is_current());
    let left: bool = one(&mut connection, "SELECT to_regclass('two.tasks') IS NULL").await;
    assert!(left, "the tables of `two` are moved");
}

/// A user who may read and write rows, and nothing else.
pub(crate) async fn user_without_rights(
    connection: &mut PgConnection,
    database: &Database,
) -> Settings {
    let name = format!("reader_{}", uuid::Uuid::new_v4().simple());
    let sql = format!(
        "CREATE ROLE {name} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA \"{SCHEMA}\" TO {name};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"{SCHEMA}\" TO {name}"
    );
    execute(connection, &sql).await;
    let (_, place) = database.url.split_once('@').unwrap();
    settings(&format!("postgres://{name}:secret@{place}"))
}

#[tokio::test]
async fn where_nothing_is_missing_nothing_is_locked_and_no_right_is_needed() {
    let database = Database::migrated().await;
    let mut connection = database.connection().await;
    let settings = user_without_rights(&mut connection, &database).await;
    let lock = format!(
        "SELECT pg_advisory_lock(hashtextextended('taskhost/migrations/{SCHEMA}', 0));
        BEGIN; LOCK TABLE migrations IN EXCLUSIVE MODE"
    );
    execute(&mut connection, &lock).await;
    let store = Store::connect(&settings).unwrap();
    let done = tokio::time::timeout(std::time::Duration::from_secs(5), store.migrate()).await;
    assert!(done.expect("it waits for nothing").unwrap().is_current());
}

#[tokio::test]
async fn a_user_without_the_right_to_make_a_schema_may_use_one_that_is_there() {
    let database = Database::empty().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    execute(&mut connection, &format!("CREATE SCHEMA \"{SCHEMA}\"")).await;
    let settings = user_without_rights(&mut connection, &database).await;
    let store = Store::connect(&settings).unwrap();
    let refused = store.migrate().await.unwrap_err();
    assert_eq!(refused.disposition(), Disposition::Trouble);
    let user = settings.url.split(['/', ':']).nth(3).unwrap();
    execute(
        &mut connection,
        &format!("GRANT CREATE ON SCHEMA \"{SCHEMA}\" TO {user}"),
    )
    .await;
    assert!(store.migrate().await.unwrap().is_current());
}

#[tokio::test]
async fn fleets_in_schemas_of_their_own_know_nothing_of_each_other() {
    let database = Database::migrated().await;
    let other = Settings {
        schema: SchemaName::new("taskhost").unwrap(),
        ..settings(&database.url)
    };
    let other = Store::connect(&other).unwrap();
    assert_eq!(other.schema_state().await.unwrap().applied, 0);
    assert!(other.migrate().await.unwrap().is_current());
    started(&database.store(), &key(0)).await;
    assert_eq!(database.store().snapshot("group").await.unwrap().len(), 1);
    assert!(other.snapshot("group").await.unwrap().is_empty());
}

/// The statements of `docs/upgrading.md`.
const WAY_BACK: &str = include_str!("../../../docs/upgrading.md");

#[tokio::test]
async fn the_documented_way_back_leads_to_what_hosts_of_before_know() {
    let database = Database::empty().await;
    let mut connection = earlier(&database).await;
    let columns = "SELECT string_agg(table_name || '.' || column_name || ' ' || is_nullable, ', ' ORDER BY 1)
                   FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'";
    let columns = columns.replace("ORDER BY 1", "ORDER BY table_name, column_name");
    let before: String = sqlx::query_scalar(AssertSqlSafe(columns.clone()))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    database.store().migrate().await.unwrap();
    let (_, back) = WAY_BACK.split_once("```sql\nBEGIN;").unwrap();
    let (back, _) = back.split_once("```").unwrap();
    let back = back
        .replace("taskhost.", &format!("\"{SCHEMA}\"."))
        .replace("'taskhost'", &format!("'{SCHEMA}'"));
    execute(&mut connection, &format!("BEGIN;{back}")).await;
    let after: String = sqlx::query_scalar(AssertSqlSafe(columns))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(after, before);
    earlier_host()
        .run_direct(None, &mut connection, false)
        .await
        .unwrap();
    let events: i64 = one(&mut connection, "SELECT count(*) FROM public.task_events").await;
    assert_eq!(events, 1);
    // And forth again.
    let schema = format!("DROP SCHEMA \"{SCHEMA}\"");
    execute(&mut connection, &schema).await;
    assert!(database.store().migrate().await.unwrap().is_current());
}
