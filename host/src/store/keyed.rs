//! What nearly every statement of a partition's owner names: the partition, and the claim.

use super::Key;
use super::schema::Statement;

/// Number of a claim: what a partition's owner writes under.
pub type Epoch = i64;

/// A statement whose first three parameters say which partition.
pub(super) fn keyed<'q>(sql: &'static str, key: &'q Key) -> Statement<'q> {
    sqlx::query(sql)
        .bind(&*key.group)
        .bind(&*key.partition.topic)
        .bind(key.partition.partition)
}
