//! The settings of the connection to Postgres.

use std::time::Duration;

use super::input::Input;
use super::schema_name::SchemaName;
use super::section::section;
use super::value::DatabaseUrl;

section! {
    /// Everything about the connection to Postgres.
    pub struct Database in "database" {
        /// The address of Postgres, such as `postgres://user:password@host:5432/database`. The password is never shown.
        url: Option<DatabaseUrl> = "", "DATABASE_URL" => "every connection";
        /// The most connections of one host. Each partition holds one while it commits.
        pool_max: u32 = "10" [2..=10000], "TASKHOST_DATABASE_POOL_MAX" => "the connection pool";
        /// The schema of taskhost's tables: lower-case letters, digits and `_`. All hosts of a fleet need the same; fleets that
        /// share a database need one each.
        schema: SchemaName = "taskhost", "TASKHOST_DATABASE_SCHEMA" => "every statement";
        /// How long one statement may run.
        statement_timeout: Duration = "10000" [1..=3600000], "TASKHOST_DATABASE_STATEMENT_TIMEOUT" => "statement_timeout";
        /// How long one statement may wait for a lock; at most the statement timeout.
        lock_timeout: Duration = "5000" [1..=3600000], "TASKHOST_DATABASE_LOCK_TIMEOUT" => "lock_timeout";
        /// Whether statements are prepared once and kept. Set false behind a proxy that pools transactions: each transaction
        /// then sets what it needs.
        prepared_statements: bool = "true", "TASKHOST_DATABASE_PREPARED_STATEMENTS" => "the statement cache";
    }
}

impl Database {
    pub(super) fn check(&self, input: &mut Input) {
        if self.lock_timeout > self.statement_timeout {
            input.add_contradiction(
                &["database.lock_timeout", "database.statement_timeout"],
                "database.lock_timeout is longer than database.statement_timeout, so it never takes effect",
                "set TASKHOST_DATABASE_LOCK_TIMEOUT below TASKHOST_DATABASE_STATEMENT_TIMEOUT",
            );
        }
    }
}
