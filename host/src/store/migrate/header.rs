//! What a migration declares in the comments at its beginning.
//!
//! ```sql
//! -- beside: yes
//! -- concurrently: tasks_by_type ON tasks (type)
//! ```

/// What a migration declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the previous build, which doesn't know the migration, may run beside it.
    pub(super) beside: bool,
    /// The indexes that are built before the migration, without a lock that keeps others from writing.
    pub(super) concurrently: Vec<Index>,
}

/// An index to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    /// Its name.
    pub(super) name: String,
    /// The table.
    pub(super) table: String,
    /// What follows the table: columns, conditions.
    pub(super) rest: String,
}

impl Header {
    /// Reads it.
    pub(super) fn of(sql: &str) -> Self {
        let index = |text: &str| {
            let (name, on) = text.split_once(" ON ")?;
            let (table, rest) = on.split_once(' ')?;
            Some(Index {
                name: name.to_owned(),
                table: table.to_owned(),
                rest: rest.to_owned(),
            })
        };
        Self {
            beside: said(sql, "beside").any(|said| said == "yes"),
            concurrently: said(sql, "concurrently").filter_map(index).collect(),
        }
    }
}

/// What the comments at the beginning say under a name.
pub(super) fn said<'a>(sql: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    sql.lines()
        .map_while(|line| line.strip_prefix("--"))
        .filter_map(move |line| line.trim().strip_prefix(name)?.strip_prefix(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_the_text_behind_it_is_not() {
        let sql = "-- Words.\n--\n-- beside: yes\n-- concurrently: i ON t (lower(a), b) WHERE c\nSELECT 1;\n-- beside: no";
        let index = Index {
            name: "i".into(),
            table: "t".into(),
            rest: "(lower(a), b) WHERE c".into(),
        };
        let header = Header {
            beside: true,
            concurrently: vec![index],
        };
        assert_eq!(Header::of(sql), header);
        assert!(!Header::of("SELECT 1;\n-- beside: yes").beside);
    }
}
