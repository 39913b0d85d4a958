//! Builds an index while others write.
//!
//! That can't be part of a transaction. An interrupted build leaves an index that isn't valid: it is dropped and built
//! again. A valid one is left as it is, so the step can be repeated at any time.

use sqlx::PgConnection;

use super::super::error::Error;
use super::super::schema::Schema;
use super::header::Index;
use super::steps::run;

const IS_VALID: &str = "
SELECT i.indisvalid FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2";

pub(super) async fn build(
    connection: &mut PgConnection,
    schema: &Schema,
    index: &Index,
) -> Result<(), Error> {
    let Index { name, table, rest } = index;
    let found: Option<bool> = sqlx::query_scalar(IS_VALID)
        .bind(schema.name.as_str())
        .bind(name)
        .fetch_optional(&mut *connection)
        .await?;
    let quoted = schema.name.quoted();
    match found {
        Some(true) => return Ok(()),
        Some(false) => {
            tracing::warn!(index = name, "an interrupted build of an index begins anew");
            let drop = format!("DROP INDEX CONCURRENTLY {quoted}.{name}");
            run(connection, drop).await?;
        }
        None => {}
    }
    tracing::info!(index = name, "building an index");
    let create = format!("CREATE INDEX CONCURRENTLY {name} ON {quoted}.{table} {rest}");
    run(connection, create).await
}
