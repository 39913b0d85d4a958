//! Servers whose settings are not those that a commit rests on.

use sqlx::{Connection, PgConnection};
use taskhost::store::{Disposition, Error, Question, Seen, Store};
use uuid::Uuid;

use crate::one_call::{batch_of, commit, sql};
use crate::support::*;

const CALL: &str = "SELECT taskhost_commit_1(my_group => 'group', my_topic => 'task-status', my_partition => 1,
    my_epoch => $epoch, seen_batch => 0, from_offset => 0, last_token => NULL, new_token => gen_random_uuid(),
    to_offset => 0, new_frame => '')";

/// As behind a pooler that drops a client's settings, a role's own hold.
#[tokio::test]
async fn isolation_and_synchronous_commit_that_a_role_sets_against_the_host_change_nothing() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(1)).await;
    let call = CALL
        .replace("$epoch", &epoch.to_string())
        .replace("taskhost_commit_1", "\"order\".taskhost_commit_1");
    let role = format!("hostile_{}", Uuid::new_v4().simple());
    let mut admin = database.connection().await;
    let make = format!(
        "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'hostile';
         ALTER ROLE {role} SET default_transaction_isolation = 'repeatable read';
         ALTER ROLE {role} SET synchronous_commit = off"
    );
    sql(&mut admin, &make).await.unwrap();
    let (before, after) = database.url.split_once("://").unwrap();
    let server = after.rsplit_once('@').map_or(after, |(_, server)| server);
    let url = format!("{before}://{role}:hostile@{server}");
    let mut hostile = PgConnection::connect(&url).await.unwrap();
    let refused = Error::from(sql(&mut hostile, &call).await.unwrap_err());
    assert_eq!(refused.disposition(), Disposition::Trouble);
    let said = refused.to_string();
    assert!(
        said.contains("TH000") && said.contains("set default_transaction_isolation"),
        "{said}"
    );
    assert_eq!(batch_of(&store, 1, epoch).await, 0);
    sql(&mut hostile, "BEGIN ISOLATION LEVEL READ COMMITTED")
        .await
        .unwrap();
    sql(&mut hostile, &call).await.unwrap();
    let shown: String = sqlx::query_scalar("SHOW synchronous_commit")
        .fetch_one(&mut hostile)
        .await
        .unwrap();
    assert_eq!(shown, "on", "what the commit waits for");
    sql(&mut hostile, "ROLLBACK").await.unwrap();
    // The store's own sessions bring their settings along.
    let of_role = Store::connect(&settings(&url)).unwrap();
    commit(&of_role, 1, epoch, &creates(&["x"]), Seen::default())
        .await
        .unwrap();
    of_role.close().await;
    drop(hostile);
    sql(&mut admin, &format!("DROP ROLE {role}")).await.unwrap();
}

/// A standby is recognised by `pg_is_in_recovery`. There is no real standby here: a function of that name in a schema before
/// `pg_catalog` shadows it.
#[tokio::test]
async fn what_a_standby_says_is_not_decided_on() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(1)).await;
    let mut admin = database.connection().await;
    let shadow = "CREATE SCHEMA shadow;
        CREATE FUNCTION shadow.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true';
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = shadow, pg_catalog, public', current_database());
        END $$";
    sql(&mut admin, shadow).await.unwrap();
    let standby = database.store();
    let question = Question {
        epoch,
        tasks: &[],
        rows: &[],
        letters: &[],
        ahead: false,
    };
    let read = standby.read(&key(1), question).await;
    assert!(matches!(read, Err(Error::Standby)), "{read:?}");
}
