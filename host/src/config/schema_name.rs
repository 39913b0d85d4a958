//! The name of the schema in Postgres.

use std::fmt;
use std::sync::Arc;

use super::value::Value;

/// The name of the schema in which taskhost's tables are. A plain identifier, so that it is the same with and without
/// quotes, in every tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName(Arc<str>);

/// Postgres cuts longer names off.
const CHARS_MAX: usize = 63;

impl SchemaName {
    /// The schema of a host that configures no other.
    pub const DEFAULT: &str = "taskhost";

    /// Takes a text as a name.
    ///
    /// # Errors
    /// If it is no plain identifier, or a schema of Postgres' own or one that all programs share.
    pub fn new(text: &str) -> Result<Self, String> {
        let is_letter = |char: char| char.is_ascii_lowercase() || char == '_';
        let is_plain = text.starts_with(is_letter)
            && text
                .chars()
                .all(|char| is_letter(char) || char.is_ascii_digit());
        if !is_plain {
            return Err(
                "expected a plain identifier: lower-case letters, digits and `_`, no digit first"
                    .into(),
            );
        }
        if text.len() > CHARS_MAX {
            return Err(format!("it has more than {CHARS_MAX} characters"));
        }
        if text.starts_with("pg_") || text == "information_schema" {
            return Err("it is a schema of Postgres itself".into());
        }
        if text == "public" {
            return Err(
                "other programs have tables there: taskhost needs a schema of its own".into(),
            );
        }
        Ok(Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in quotes, as it stands in SQL: a name such as `order` is a keyword.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for SchemaName {
    const KIND: &'static str = "identifier";

    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text.trim())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_identifier_is_a_name() {
        for good in ["taskhost", "_x", "order", "tasks_2"] {
            assert_eq!(SchemaName::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(64);
        for bad in [
            "", "2x", "Tasks", "a-b", "a.b", "a\"b", "ä", "pg_x", "public", &long,
        ] {
            assert!(SchemaName::parse(bad).is_err(), "{bad}");
        }
    }
}
