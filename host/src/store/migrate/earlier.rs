//! Moves the tables of hosts older than migration 12, which had no schema of their own.
//!
//! The tables are wherever the hosts' `search_path` led, usually in `public`, beside sqlx' table of migrations. That table
//! stays and gets one more row, for a migration that those hosts don't know: so they refuse to start, instead of creating new
//! tables.

use std::collections::BTreeMap;

use sqlx::migrate::{Migrate as _, MigrateError};
use sqlx::{AssertSqlSafe, PgConnection};

use super::super::error::Error;
use super::super::schema::Schema;
use super::steps::{migrations, run};

/// The first number that earlier hosts don't know.
const MOVED: i64 = 12;

/// The tables of earlier hosts. A database of an old version may lack the last ones.
const TABLES: [&str; 12] = [
    "tasks",
    "task_events",
    "progress",
    "outbox",
    "wakeups",
    "dead_letters",
    "dead_letter_edits",
    "plugin_versions",
    "activations",
    "activation_starts",
    "breaker_orders",
    "rolled_back_versions",
];

/// Schemas with a readable `_sqlx_migrations`, the one that the search path finds first.
const CANDIDATES: &str = "
SELECT n.nspname::text, c.oid IS NOT DISTINCT FROM to_regclass('_sqlx_migrations') AS found
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = '_sqlx_migrations' AND c.relkind = 'r'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
ORDER BY 2 DESC, 1";

const IS_THERE: &str = "
SELECT count(*) > 0 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'r'";

/// The database of an earlier host, not moved yet.
pub(super) struct Earlier {
    schema: String,
    /// Number of its last migration.
    pub(super) applied: i64,
}

/// Looks for the tables of an earlier host. Other programs may have a `_sqlx_migrations` too: ours has our first migration.
pub(super) async fn find(connection: &mut PgConnection) -> Result<Option<Earlier>, Error> {
    let candidates: Vec<(String, bool)> = sqlx::query_as(CANDIDATES)
        .fetch_all(&mut *connection)
        .await?;
    let mut found = Vec::new();
    for (schema, is_in_path) in candidates {
        let applied = applied(connection, &schema).await?;
        let first = migrations().first().map(|first| &*first.checksum);
        let last = applied.keys().max().copied().unwrap_or(0);
        if applied.get(&1).map(Vec::as_slice) == first && last < MOVED {
            let earlier = Earlier {
                schema,
                applied: last,
            };
            if is_in_path {
                return Ok(Some(earlier));
            }
            found.push(earlier);
        }
    }
    if found.len() > 1 {
        let schemas = found.into_iter().map(|earlier| earlier.schema).collect();
        return Err(Error::EarlierAmbiguous { schemas });
    }
    Ok(found.pop())
}

async fn applied(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<BTreeMap<i64, Vec<u8>>, Error> {
    let sql = format!(
        "SELECT version, checksum FROM {}._sqlx_migrations WHERE success",
        quoted(schema)
    );
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().collect())
}

/// A schema that others named may have any character in its name.
fn quoted(schema: &str) -> String {
    format!("\"{}\"", schema.replace('"', "\"\""))
}

fn of_lock(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) => error.into(),
        other => sqlx::Error::Migrate(Box::new(other)).into(),
    }
}

impl Earlier {
    /// Keeps earlier hosts from migrating: they take this lock of sqlx.
    pub(super) async fn lock(&self, connection: &mut PgConnection) -> Result<(), Error> {
        connection.lock().await.map_err(of_lock)
    }

    /// Gives the lock back.
    pub(super) async fn unlock(&self, connection: &mut PgConnection) -> Result<(), Error> {
        connection.unlock().await.map_err(of_lock)
    }

    /// Moves the tables, in the caller's transaction, and says which migrations they have, with their checksums.
    pub(super) async fn move_to(
        &self,
        connection: &mut PgConnection,
        schema: &Schema,
    ) -> Result<BTreeMap<i64, Vec<u8>>, Error> {
        let from = quoted(&self.schema);
        if self.schema != schema.name.as_str() {
            tracing::info!(from = self.schema, to = %schema.name, "moving the tables into their own schema");
            for table in TABLES {
                let is_there: bool = sqlx::query_scalar(IS_THERE)
                    .bind(&self.schema)
                    .bind(table)
                    .fetch_one(&mut *connection)
                    .await?;
                if is_there {
                    let to = schema.name.quoted();
                    let sql = format!("ALTER TABLE {from}.{table} SET SCHEMA {to}");
                    run(connection, sql).await?;
                }
            }
        }
        let applied = applied(connection, &self.schema).await?;
        let mark = format!(
            "INSERT INTO {from}._sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES ($1, $2, true, '', 0)"
        );
        sqlx::query(AssertSqlSafe(mark))
            .bind(MOVED)
            .bind(format!("moved to the schema {}", schema.name))
            .execute(connection)
            .await?;
        Ok(applied)
    }
}
