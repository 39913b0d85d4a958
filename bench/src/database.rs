//! What a contender left in its database, looked at from outside.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use crate::stream::Stream;

/// Runs statements of which nothing is read.
pub(crate) fn execute(url: &str, sql: &'static str) -> anyhow::Result<()> {
    with(url, async |connection| {
        sqlx::raw_sql(sql).execute(connection).await?;
        Ok(())
    })
}

/// The server's version, as it says itself.
pub(crate) fn version(url: &str) -> anyhow::Result<String> {
    with(url, async |connection| {
        let text = sqlx::query_scalar("SHOW server_version");
        Ok(text.fetch_one(connection).await?)
    })
}

/// Drops a database, and writes out what is dirty, so that no round pays for the one before.
pub(crate) fn drop_database(admin: &str, name: &str) -> anyhow::Result<()> {
    let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    with(admin, async move |connection| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await?;
        sqlx::raw_sql("CHECKPOINT").execute(connection).await?;
        Ok(())
    })
}

/// Fails unless tasks and history are what the stream makes of them.
pub(crate) fn check(url: &str, stream: Stream) -> anyhow::Result<()> {
    let count = i64::try_from(stream.tasks())?;
    let (statuses, kinds, whole) = with(url, async |connection| {
        let statuses: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT status, version, count(*) FROM tasks GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .fetch_all(&mut *connection)
        .await?;
        let kinds: Vec<(String, i64)> =
            sqlx::query_as("SELECT kind, count(*) FROM task_events GROUP BY 1")
                .fetch_all(&mut *connection)
                .await?;
        // Data that all messages of a task went into, and an event for each version.
        let whole: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM tasks
             WHERE data->>'userEmail' = 'user@example.com' AND data->>'originalUrl' = 'https://example.com'
               AND (status = 'new' OR data->>'result' = 'Found 5 products matching criteria'
                    AND data->>'startedAt' IS NOT NULL AND data->>'finishedAt' IS NOT NULL)
               AND version = (SELECT count(*) FROM task_events WHERE task_id = tasks.id AND version <= tasks.version)",
        )
        .fetch_one(connection)
        .await?;
        Ok((statuses, kinds, whole))
    })?;
    let expected = [
        ("completed".to_owned(), 3, count),
        ("new".to_owned(), 1, count),
    ];
    anyhow::ensure!(
        statuses == expected,
        "tasks by status and version: {statuses:?}"
    );
    let kinds: BTreeMap<String, i64> = kinds.into_iter().collect();
    let expected = [
        ("task.completed".to_owned(), count),
        ("task.created".to_owned(), 2 * count),
        ("task.started".to_owned(), count),
    ];
    anyhow::ensure!(
        kinds == BTreeMap::from(expected),
        "event rows by kind: {kinds:?}"
    );
    anyhow::ensure!(
        whole == 2 * count,
        "of {} tasks, {whole} have the data and the history of their messages",
        2 * count
    );
    Ok(())
}

fn with<T>(
    url: &str,
    what: impl AsyncFnOnce(&mut PgConnection) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // The tables of taskhost, or those of a contender.
        let options =
            PgConnectOptions::from_str(url)?.options([("search_path", "taskhost,public")]);
        let mut connection = options.connect().await.context("Postgres")?;
        let outcome = what(&mut connection).await;
        connection.close().await.ok();
        outcome
    })
}
