//! The schema in the statements.
//!
//! Every statement names the schema. So nothing depends on a session's `search_path`: a proxy that pools transactions may hand
//! out a session with another one. The texts in this crate say `taskhost.`. For a schema of another name each text is rewritten
//! once, so that the client prepares and caches it like any other.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Execute, SqlSafeStr as _, SqlStr};

use super::error::Error;
use crate::config::SchemaName;

/// A statement with its arguments.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// How the texts in this crate name the schema.
const MARKER: &str = "taskhost.";

/// A store's schema, and its statements' texts as rewritten so far.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: SchemaName,
    texts: RwLock<HashMap<SqlStr, SqlStr>>,
}

impl Schema {
    pub(super) fn new(name: SchemaName) -> Self {
        Self {
            name,
            texts: RwLock::default(),
        }
    }

    /// A text with this schema's name.
    pub(super) fn name_in_text(&self, sql: &str) -> String {
        sql.replace(MARKER, &format!("{}.", self.name.quoted()))
    }

    /// A statement with this schema's name.
    pub(super) fn name_in<'q>(&self, mut statement: Statement<'q>) -> Result<Statement<'q>, Error> {
        if self.name.as_str() == SchemaName::DEFAULT {
            return Ok(statement);
        }
        let persistent = Execute::persistent(&statement);
        let arguments = statement.take_arguments().map_err(sqlx::Error::Encode)?;
        let sql = self.known(statement.sql());
        Ok(sqlx::query_with(sql, arguments.unwrap_or_default()).persistent(persistent))
    }

    fn known(&self, sql: SqlStr) -> SqlStr {
        let known = self.texts.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = known.get(&sql) {
            return text.clone();
        }
        drop(known);
        let text: std::sync::Arc<str> = self.name_in_text(sql.as_str()).into();
        let text = AssertSqlSafe(text).into_sql_str();
        let mut texts = self.texts.write().unwrap_or_else(PoisonError::into_inner);
        texts.insert(sql, text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_the_schema_and_is_rewritten_once() {
        let schema = Schema::new(SchemaName::new("order").unwrap());
        let text = || {
            let statement = sqlx::query("SELECT $1 FROM taskhost.tasks, taskhost.outbox").bind(1);
            schema.name_in(statement).unwrap().sql()
        };
        assert_eq!(text(), "SELECT $1 FROM \"order\".tasks, \"order\".outbox");
        assert_eq!(text().as_str().as_ptr(), text().as_str().as_ptr());
    }
}
