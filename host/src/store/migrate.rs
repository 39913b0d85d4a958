//! The schema: brought up to date by whoever starts first, and refused if it is newer than this host.

use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Connection, Row};

use super::error::Error;
use super::pool::Store;
use super::session::Session;

/// The migrations in `migrations/`, compiled in.
static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// How long a host waits for another one to finish migrating.
const LOCK_TIMEOUT: &str = "60s";

/// The schema that the database has, beside the one that this host knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaState {
    /// Number of the last migration applied; 0 if there is none.
    pub applied: i64,
    /// Number of the last migration that this host has.
    pub known: i64,
}

impl SchemaState {
    /// Whether this host can work with it.
    pub fn is_current(self) -> bool {
        self.applied == self.known
    }
}

impl Store {
    /// Applies the migrations that are missing. Hosts that start together do it one after the other: sqlx
    /// holds an advisory lock meanwhile. It is a lock of the session, so behind a proxy that pools
    /// transactions, migrate through a direct address.
    ///
    /// # Errors
    /// [`Error::SchemaNewer`] if the database was migrated by a newer taskhost.
    pub async fn migrate(&self) -> Result<SchemaState, Error> {
        let mut connection = self.options.connect().await?;
        for (name, value) in [("statement_timeout", "0"), ("lock_timeout", LOCK_TIMEOUT)] {
            sqlx::query("SELECT set_config($1, $2, false)")
                .bind(name)
                .bind(value)
                .execute(&mut connection)
                .await?;
        }
        // What `run` calls, which itself can't be awaited in a spawned task: its future is not `Send` enough.
        let done = MIGRATOR.run_direct(None, &mut connection, false).await;
        let closed = connection.close().await;
        done?;
        closed?;
        self.schema_state().await
    }

    /// Which schema the database has. Changes nothing.
    ///
    /// # Errors
    /// If Postgres can't be asked.
    pub async fn schema_state(&self) -> Result<SchemaState, Error> {
        let known = MIGRATOR
            .iter()
            .map(|migration| migration.version)
            .max()
            .unwrap_or(0);
        let mut session = Session::begin(self).await?;
        let table = sqlx::query("SELECT to_regclass('_sqlx_migrations') IS NOT NULL AS there");
        let there = match session.row(table).await? {
            Some(row) => row.try_get("there")?,
            None => false,
        };
        let mut applied = 0;
        if there {
            let last =
                "SELECT coalesce(max(version), 0) AS last FROM _sqlx_migrations WHERE success";
            if let Some(row) = session.row(sqlx::query(last)).await? {
                applied = row.try_get("last")?;
            }
        }
        session.rollback().await;
        Ok(SchemaState { applied, known })
    }
}
