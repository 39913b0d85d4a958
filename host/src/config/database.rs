//! How taskhost talks to Postgres.

use std::time::Duration;

use super::input::Input;
use super::setting::section;
use super::value::DatabaseUrl;

section! {
    /// Everything about the connection to Postgres.
    pub struct Database in "database" {
        /// Where Postgres is, such as `postgres://user:password@host:5432/database`; its password is never shown.
        url: Option<DatabaseUrl> = "", "DATABASE_URL" => "every connection";
        /// The most connections of one host; each partition that commits holds one meanwhile.
        pool_max: u32 = "10" [2..=10000], "TASKHOST_DATABASE_POOL_MAX" => "the connection pool";
        /// Connections that are kept open though nothing happens.
        pool_min: u32 = "1" [0..=10000], "TASKHOST_DATABASE_POOL_MIN" => "the connection pool";
        /// How long to wait for a connection.
        acquire_timeout: Duration = "5000" [1..=600000], "TASKHOST_DATABASE_ACQUIRE_TIMEOUT" => "the connection pool";
        /// How long one statement may run.
        statement_timeout: Duration = "10000" [1..=3600000], "TASKHOST_DATABASE_STATEMENT_TIMEOUT" => "statement_timeout";
        /// How long one statement may wait for a lock; at most the statement timeout.
        lock_timeout: Duration = "5000" [1..=3600000], "TASKHOST_DATABASE_LOCK_TIMEOUT" => "lock_timeout";
        /// How long a transaction may be idle before Postgres ends it, so that a frozen host blocks nobody.
        idle_transaction_timeout: Duration = "10000" [1..=3600000], "TASKHOST_DATABASE_IDLE_TRANSACTION_TIMEOUT"
            => "idle_in_transaction_session_timeout";
        /// Whether statements are prepared once and kept; false behind a proxy that pools transactions.
        prepared_statements: bool = "true", "TASKHOST_DATABASE_PREPARED_STATEMENTS" => "the statement cache";
    }
}

impl Database {
    pub(super) fn check(&self, input: &mut Input) {
        if self.pool_min > self.pool_max {
            input.contradiction(
                &["database.pool_min", "database.pool_max"],
                format!(
                    "database.pool_min is {}, more than database.pool_max, {}",
                    self.pool_min, self.pool_max
                ),
                format!(
                    "set TASKHOST_DATABASE_POOL_MIN to at most {}",
                    self.pool_max
                ),
            );
        }
        if self.lock_timeout > self.statement_timeout {
            input.contradiction(
                &["database.lock_timeout", "database.statement_timeout"],
                "database.lock_timeout is longer than database.statement_timeout, so it never happens",
                "set TASKHOST_DATABASE_LOCK_TIMEOUT below TASKHOST_DATABASE_STATEMENT_TIMEOUT",
            );
        }
    }
}
