//! Reads a struct from the columns of a row. It stands for sqlx's derive, which takes a second build of sqlx and its driver.

/// Implements `FromRow`: each field is read from the column of its name, or from the column named with `as`.
#[macro_export]
macro_rules! from_row {
    (@column $field:ident) => { stringify!($field) };
    (@column $field:ident $column:literal) => { $column };
    ($row:ident: $($field:ident $(as $column:literal)?),+ $(,)?) => {
        impl sqlx::FromRow<'_, sqlx::postgres::PgRow> for $row {
            fn from_row(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
                use sqlx::Row as _;
                Ok(Self { $($field: row.try_get($crate::from_row!(@column $field $($column)?))?),+ })
            }
        }
    };
}
