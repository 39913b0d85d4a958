//! The schema's steps, and how a text of theirs is run.

use std::borrow::Cow;
use std::sync::LazyLock;

use sqlx::migrate::{Migration, MigrationType};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use super::super::error::Error;

/// A file of `migrations/`: its number, what it is called in the database, and its text.
macro_rules! step {
    ($version:literal, $description:literal, $file:literal) => {
        (
            $version,
            $description,
            include_str!(concat!("../../../../migrations/", $file)),
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
    step!(12, "own schema", "0012_own_schema.sql"),
    step!(13, "history", "0013_history.sql"),
    step!(14, "commit", "0014_commit.sql"),
];

static MIGRATIONS: LazyLock<Vec<Migration>> = LazyLock::new(|| {
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        let description = Cow::Borrowed(description);
        let sql = sql.into_sql_str();
        Migration::new(version, description, MigrationType::Simple, sql, false)
    };
    STEPS.iter().map(migration).collect()
});

/// The schema's steps, as this host has them.
pub fn migrations() -> &'static [Migration] {
    &MIGRATIONS
}

/// Runs a text of several statements.
pub(super) async fn run(connection: &mut PgConnection, sql: String) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}
