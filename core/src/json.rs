//! What JSON the product accepts: everything that both JSON and Postgres can hold.
//!
//! One pass over the text finds what a lenient reader would let through and a database or a plugin
//! would stumble over later: a NUL, a key that stands twice, a lone surrogate, a number beyond range,
//! nesting without end. Nothing is built, so it costs about as much as skipping the text.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Why a text is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It is no JSON.
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
    },
    /// A string holds U+0000, which Postgres can't store.
    Nul,
    /// An object has a key twice, so readers disagree on what it says.
    DuplicateKey,
    /// It is nested deeper than [`crate::limits::JSON_DEPTH_MAX`].
    TooDeep,
    /// A number is beyond what a 64-bit float can hold.
    NumberOutOfRange,
    /// A `\u` escape is half of a surrogate pair.
    LoneSurrogate,
}

impl Problem {
    /// The code of the dead letter.
    pub fn code(self) -> &'static str {
        match self {
            Self::Syntax { .. } => "not-json",
            Self::Nul => "nul-character",
            Self::DuplicateKey => "duplicate-key",
            Self::TooDeep => "nested-too-deep",
            Self::NumberOutOfRange => "number-out-of-range",
            Self::LoneSurrogate => "lone-surrogate",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, column } => {
                write!(f, "no JSON: syntax error at line {line}, column {column}")
            }
            Self::Nul => f.write_str("a string holds a NUL character, which Postgres can't store"),
            Self::DuplicateKey => f.write_str("an object has the same key twice"),
            Self::TooDeep => f.write_str("nested deeper than 127 levels"),
            Self::NumberOutOfRange => f.write_str("a number is beyond the range of a 64-bit float"),
            Self::LoneSurrogate => f.write_str("a \\u escape is half of a surrogate pair"),
        }
    }
}

/// Checks one JSON document.
///
/// # Errors
/// The first problem found.
pub fn check(text: &str) -> Result<(), Problem> {
    let problem = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let result = Checker(&problem)
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
    result.map_err(|error| problem.get().unwrap_or_else(|| classify(&error)))
}

/// Checks one JSON document and that it is an object.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_object(text: &str) -> Result<(), String> {
    check(text).map_err(|problem| problem.to_string())?;
    match text.trim_start().starts_with('{') {
        true => Ok(()),
        false => Err("JSON, but not an object".to_owned()),
    }
}

/// `serde_json` tells its kinds apart only in words.
fn classify(error: &serde_json::Error) -> Problem {
    let words = error.to_string();
    if words.starts_with("recursion limit") {
        Problem::TooDeep
    } else if words.starts_with("number out of range") {
        Problem::NumberOutOfRange
    } else if words.contains("surrogate") || words.contains("end of hex escape") {
        Problem::LoneSurrogate
    } else {
        Problem::Syntax {
            line: error.line(),
            column: error.column(),
        }
    }
}

/// Walks a value and keeps nothing but the first problem.
#[derive(Clone, Copy)]
struct Checker<'a>(&'a Cell<Option<Problem>>);

impl Checker<'_> {
    fn fail<E: serde::de::Error>(self, problem: Problem) -> E {
        self.0.set(Some(problem));
        E::custom("")
    }
}

impl<'de> DeserializeSeed<'de> for Checker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match text.contains('\0') {
            true => Err(self.fail(Problem::Nul)),
            false => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = Keys::default();
        while let Some(Key(key)) = entries.next_key::<Key<'de>>()? {
            if key.contains('\0') {
                return Err(self.fail(Problem::Nul));
            }
            if !keys.insert(key) {
                return Err(self.fail(Problem::DuplicateKey));
            }
            entries.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// A key, borrowed from the text unless it has an escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The keys of one object: a list while they are few, as nearly always, and a set beyond.
#[derive(Default)]
struct Keys<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    /// Whether the key was new.
    fn insert(&mut self, key: Cow<'de, str>) -> bool {
        const FEW: usize = 16;
        if self.few.contains(&key) || self.many.contains(&key) {
            return false;
        }
        match self.few.len() < FEW {
            true => self.few.push(key),
            false => drop(self.many.insert(key)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_json_or_postgres_cannot_hold_is_named() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let wide: String = (0..40).map(|i| format!("\"k{i}\":1,")).collect();
        let cases = [
            ("{", Problem::Syntax { line: 1, column: 1 }),
            ("{} x", Problem::Syntax { line: 1, column: 4 }),
            (r#"{"a":"\u0000"}"#, Problem::Nul),
            (r#"{"\u0000":1}"#, Problem::Nul),
            (r#"{"a":1,"a":2}"#, Problem::DuplicateKey),
            (r#"{"a":1,"\u0061":2}"#, Problem::DuplicateKey),
            (r#"{"a":[{"b":1,"b":1}]}"#, Problem::DuplicateKey),
            (&format!("{{{wide}\"k39\":2}}"), Problem::DuplicateKey),
            (&deep, Problem::TooDeep),
            (r#"{"a":1e400}"#, Problem::NumberOutOfRange),
            (r#"{"a":"\ud800"}"#, Problem::LoneSurrogate),
            (r#"{"a":"\udc00x"}"#, Problem::LoneSurrogate),
        ];
        for (text, problem) in cases {
            assert_eq!(
                check(text),
                Err(problem),
                "{}",
                crate::limits::cut(text, 60)
            );
        }
    }

    #[test]
    fn ordinary_json_passes() {
        for text in [
            "{}",
            "null",
            r#" {"a":[1,-2,3.5e10,true,null,"ä😀\n"],"b":{"a":1}} "#,
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_what_serde_json_reads(text in ".{0,60}") {
            if check(&text).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
