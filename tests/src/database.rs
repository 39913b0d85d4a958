//! A database that is removed with the value, and its rows.

use std::str::FromStr as _;

use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use taskhost::store::migrations;

use crate::{PATIENCE, from_row};

/// A row of `tasks`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns are described in the migrations")]
pub struct TaskRow {
    pub id: String,
    pub kind: String,
    pub status: String,
    pub data: Value,
    pub version: i64,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

from_row!(
    TaskRow: id, kind as "type", status, data, version, created_at, updated_at
);

/// A row of `task_events`, without the bytes of its cause.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns are described in the migrations")]
// Many fields: each is a column of the row.
pub struct EventRow {
    pub task_id: String,
    pub version: i64,
    pub number: i32,
    pub kind: String,
    pub from_status: Option<String>,
    pub to_status: String,
    pub data: Value,
    pub at: OffsetDateTime,
    pub cause_topic: String,
    pub cause_partition: i32,
    pub cause_offset: i64,
    pub plugin_name: String,
    pub plugin_version: String,
    pub plugin_digest: String,
    pub trace_id: String,
    pub foreign_trace_id: Option<String>,
}

from_row!(
    EventRow: task_id, version, number, kind, from_status, to_status, data, at, cause_topic,
    cause_partition, cause_offset, plugin_name, plugin_version, plugin_digest, trace_id,
    foreign_trace_id
);

/// A row of `dead_letters`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns are described in the migrations")]
// Many fields: each is a column of the row.
pub struct DeadLetterRow {
    pub id: Uuid,
    pub record_topic: String,
    pub record_partition: i32,
    pub record_offset: i64,
    pub record_timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Value,
    pub code: String,
    pub reason: String,
    pub backtrace: Option<String>,
    pub stage: String,
    pub attempts: i32,
    pub task_id: Option<String>,
    pub plugin_name: Option<String>,
}

from_row!(
    DeadLetterRow: id, record_topic, record_partition, record_offset, record_timestamp, key, value, headers,
    code, reason, backtrace, stage, attempts, task_id, plugin_name
);

/// A row of `progress`, without its owners and token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns are described in the migrations")]
// Many fields: each is a column of the row.
pub struct ProgressRow {
    pub topic: String,
    pub partition: i32,
    pub next_offset: Option<i64>,
    pub batch: i64,
    pub epoch: i64,
    pub published: Option<i64>,
    pub consumed: i64,
    pub applied: i64,
    pub ignored: i64,
    pub deferred: i64,
    pub dead_letters: i64,
    pub timers: i64,
    /// Messages of the partition that wait now: rows of `wakeups`.
    pub waiting: i64,
}

from_row!(
    ProgressRow: topic, partition, next_offset, batch, epoch, published, consumed, applied, ignored,
    deferred, dead_letters, timers, waiting
);

/// A row of `wakeups`, without the bytes of its cause.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns are described in the migrations")]
pub struct WaitingRow {
    pub topic: String,
    pub partition: i32,
    pub kind: String,
    pub task_id: String,
    pub name: Option<String>,
    pub due: Option<OffsetDateTime>,
    pub sequence: i64,
    pub why: String,
    pub attempt: i32,
    pub tries: i32,
    pub reason: String,
}

from_row!(
    WaitingRow: topic, partition, kind, task_id, name, due, sequence, why, attempt, tries, reason
);

/// One test's database.
pub(crate) struct Database {
    name: String,
    admin_url: String,
    pub(crate) url: String,
    pub(crate) pool: PgPool,
}

impl Database {
    /// An empty one.
    pub(crate) async fn create(admin_url: &str) -> Self {
        let name = format!("taskhost_test_{}", Uuid::new_v4().simple());
        execute(
            admin_url,
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        )
        .await;
        let (server, _) = admin_url
            .rsplit_once('/')
            .expect("TEST_DATABASE_URL ends with /<database>");
        let url = format!("{server}/{name}");
        let options = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(PATIENCE);
        // Hosts migrate behind its back, and a prepared statement doesn't outlive a new column.
        let connect = PgConnectOptions::from_str(&url).expect("a URL of Postgres");
        let connect = connect.options([("search_path", "taskhost,public")]);
        let pool = options.connect_lazy_with(connect.statement_cache_capacity(0));
        Self {
            name,
            admin_url: admin_url.to_owned(),
            url,
            pool,
        }
    }

    pub(crate) async fn remove(&self) {
        self.pool.close().await;
        execute(
            &self.admin_url,
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
        )
        .await;
    }

    pub(crate) async fn rows<T>(&self, sql: &'static str, argument: Option<&str>) -> Vec<T>
    where
        T: for<'r> FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        let query = sqlx::query_as(sql);
        let query = match argument {
            Some(argument) => query.bind(argument.to_owned()),
            None => query,
        };
        query
            .fetch_all(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Whether a host has brought the schema up to date: all of it, as a table whose columns change while it is read is no
    /// table to read from.
    pub(crate) async fn is_migrated(&self) -> bool {
        let number = |sql: &'static str| {
            let query = sqlx::query_scalar::<_, i64>(sql);
            async {
                query
                    .fetch_one(&self.pool)
                    .await
                    .expect("an answer of Postgres")
            }
        };
        let is_there = "SELECT count(to_regclass('taskhost.migrations'))";
        if number(is_there).await == 0 {
            return false;
        }
        let applied = "SELECT count(*) FROM taskhost.migrations";
        usize::try_from(number(applied).await).is_ok_and(|applied| applied == migrations().len())
    }
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url)
        .await
        .expect("a connection to Postgres");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    connection.close().await.expect("the connection's end");
}

pub(crate) const TASKS: &str = "SELECT * FROM tasks ORDER BY id";
pub(crate) const TASK: &str = "SELECT * FROM tasks WHERE id = $1";
pub(crate) const EVENTS: &str =
    "SELECT * FROM task_history WHERE task_id = $1 ORDER BY version, number";
pub(crate) const ALL_EVENTS: &str = "SELECT * FROM task_history ORDER BY task_id, version, number";
pub(crate) const DEAD_LETTERS: &str =
    "SELECT * FROM dead_letters ORDER BY record_topic, record_partition, record_offset";
pub(crate) const WAITING: &str = "SELECT * FROM wakeups ORDER BY topic, partition, sequence";
pub(crate) const PROGRESS: &str = "SELECT p.*, (SELECT count(*) FROM wakeups w WHERE w.kind = 'deferred' \
    AND (w.group_id, w.topic, w.partition) = (p.group_id, p.topic, p.partition)) AS waiting \
    FROM progress p ORDER BY topic, partition";
