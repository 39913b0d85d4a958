//! The partitions of the history, one for each month, made ahead.
//!
//! An event belongs to the month in which it was stored, by the database's clock. Each partition begins where the last one
//! ends, so there are no gaps, however long nobody looked. One host of the fleet makes them, under an advisory lock that is
//! only tried. Where a partition is missing, no event can be stored: that is [`Error::NoPartition`], and no message's fault.

use sqlx::{AssertSqlSafe, Row as _};

use super::error::Error;
use super::pool::Store;
use super::session::Session;

const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS held";

/// What is missing until the end of the third month from now. The bounds are read as Postgres prints them.
const MISSING: &str = r"
WITH last AS (
    SELECT max(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''(.*)''\)')::timestamptz) AT TIME ZONE 'UTC' AS until
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'taskhost.task_events'::regclass
)
SELECT to_char(month, 'YYYY_MM') AS month,
       to_char(greatest(last.until, month), 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS low,
       to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00+00' AS high
FROM last, generate_series(
    date_trunc('month', coalesce(last.until, now() AT TIME ZONE 'UTC')),
    date_trunc('month', now() AT TIME ZONE 'UTC') + interval '3 months', interval '1 month') AS month
ORDER BY 1";

/// A partition that is to be made.
struct Missing {
    name: String,
    low: String,
    high: String,
}

impl Store {
    /// Makes the partitions of the history that are missing until the end of the third month from now, and says which. If
    /// nothing is missing, no right but to read is needed; none if another host is at it.
    ///
    /// # Errors
    /// Trouble only, such as a missing right.
    pub async fn make_partitions(&self) -> Result<Option<Vec<String>>, Error> {
        if self.missing_partitions().await?.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut session = Session::begin(self).await?;
        let lock = format!("taskhost/partitions/{}", self.schema.name);
        let held = session.row(sqlx::query(TRY_LOCK).bind(lock)).await?;
        if !held.map_or(Ok(false), |row| row.try_get("held"))? {
            session.rollback().await;
            return Ok(None);
        }
        // Once more, as another host may have been at it.
        let missing = self.missing_partitions().await?;
        for Missing { name, low, high } in &missing {
            // A table of its own that is attached: others go on writing meanwhile.
            let make = format!(
                "CREATE TABLE taskhost.{name} (LIKE taskhost.task_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
            );
            let attach = format!(
                "ALTER TABLE taskhost.task_events ATTACH PARTITION taskhost.{name} FOR VALUES FROM ('{low}') TO ('{high}')"
            );
            for sql in [make, attach] {
                let statement = sqlx::query(AssertSqlSafe(sql)).persistent(false);
                session.execute(statement).await?;
            }
        }
        session.commit_or_repeat().await?;
        Ok(Some(
            missing.into_iter().map(|missing| missing.name).collect(),
        ))
    }

    async fn missing_partitions(&self) -> Result<Vec<Missing>, Error> {
        let missing = |row: &sqlx::postgres::PgRow| {
            let month: String = row.try_get("month")?;
            Ok(Missing {
                name: format!("task_events_{month}"),
                low: row.try_get("low")?,
                high: row.try_get("high")?,
            })
        };
        let rows = self.read_rows(sqlx::query(MISSING)).await?;
        rows.iter().map(missing).collect()
    }
}
