//! The schema: brought up to date by whoever starts first, and refused if it is newer than this host.

use std::borrow::Cow;
use std::sync::LazyLock;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions, Connection, Row, SqlSafeStr as _};

use super::error::Error;
use super::pool::Store;
use super::session::Session;

/// A file of `migrations/`: its number, what it is called in the database, and its text.
macro_rules! step {
    ($version:literal, $description:literal, $file:literal) => {
        (
            $version,
            $description,
            include_str!(concat!("../../../migrations/", $file)),
        )
    };
}

/// The files in `migrations/`, compiled in. The macro that reads the directory would take a second build of sqlx, its
/// Postgres driver, rustls and tokio. So they are listed here, and a test compares the list with the directory.
const STEPS: &[(i64, &str, &str)] = &[
    step!(1, "tasks", "0001_tasks.sql"),
    step!(2, "progress", "0002_progress.sql"),
    step!(3, "wakeups", "0003_wakeups.sql"),
    step!(4, "plugins", "0004_plugins.sql"),
    step!(5, "halts", "0005_halts.sql"),
    step!(6, "activation starts", "0006_activation_starts.sql"),
    step!(7, "route breakers", "0007_route_breakers.sql"),
    step!(8, "dead letter replays", "0008_dead_letter_replays.sql"),
    step!(9, "waiting", "0009_waiting.sql"),
    step!(10, "wakeup ids", "0010_wakeup_ids.sql"),
    step!(11, "waiting order", "0011_waiting_order.sql"),
    step!(14, "commit", "0014_commit.sql"),
];

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let steps = STEPS.iter().map(|&(version, description, sql)| {
        let description = Cow::Borrowed(description);
        let outside_transaction = sql.starts_with("-- no-transaction");
        let sql = sql.into_sql_str();
        Migration::new(
            version,
            description,
            MigrationType::Simple,
            sql,
            outside_transaction,
        )
    });
    Migrator::with_migrations(steps.collect())
});

/// The schema's steps, as this host has them.
pub fn migrations() -> &'static Migrator {
    &MIGRATOR
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_file_of_the_directory_is_compiled_in_as_sqlx_reads_it() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
        let files = Migrator::new(std::path::Path::new(directory)).await;
        let files = files.expect("the directory can be read");
        let all = |migrator: &Migrator| -> Vec<_> {
            let known = |step: &Migration| {
                let (description, checksum) = (step.description.clone(), step.checksum.clone());
                (step.version, description, checksum, step.no_tx)
            };
            migrator.iter().map(known).collect()
        };
        assert_eq!(all(migrations()), all(&files));
    }
}
