//! The schema: migrated once however many start, and refused when it is newer.

use taskhost::store::Error;

use crate::support::*;

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
async fn a_host_older_than_the_schema_says_so_and_stops() {
    let database = Database::migrated().await;
    let mut connection = database.connection().await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'from the future', true, '\\x00', 0)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let store = database.store();
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
    sqlx::query("UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1")
        .execute(&mut connection)
        .await
        .unwrap();
    let refused = database.store().migrate().await.unwrap_err();
    assert!(matches!(refused, Error::SchemaChanged { version: 1 }));
}
