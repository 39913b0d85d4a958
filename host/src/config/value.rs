//! The kinds of value that a setting can have: how each is read from text and shown.
//!
//! Both sources, the environment and `taskhost.toml`, give text. A kind defines which text it accepts, and shows the
//! value without secrets.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// A kind of setting.
pub trait Value: Sized {
    /// The expected text, in words for "expected …" and for a table's column.
    const KIND: &'static str;
    /// Whether the value must not be shown, not even in part.
    const SECRET: bool = false;
    /// Whether a refused text may contain a secret, so that no problem repeats it.
    const HIDDEN_IF_MALFORMED: bool = Self::SECRET;

    /// Reads the value, or says what is wrong with the text without repeating it.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as a number in its setting's unit, for kinds that have a range.
    fn number(&self) -> Option<u64> {
        None
    }

    /// The value without secrets.
    fn show(&self) -> String;
}

impl Value for String {
    const KIND: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("it is empty".into());
        }
        Ok(text.trim().to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for Vec<String> {
    const KIND: &'static str = "list, separated by commas";

    fn parse(text: &str) -> Result<Self, String> {
        let items: Vec<String> = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect();
        if items.is_empty() {
            return Err("it names nothing".into());
        }
        Ok(items)
    }

    fn show(&self) -> String {
        self.join(",")
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err("expected true, false, 1, 0, yes or no".into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    const KIND: &'static str = "whole number";

    fn parse(text: &str) -> Result<Self, String> {
        let number = u64::parse(text)?;
        Self::try_from(number).map_err(|_| format!("it is more than {}", Self::MAX))
    }

    fn number(&self) -> Option<u64> {
        Some(u64::from(*self))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    const KIND: &'static str = "whole number";

    fn parse(text: &str) -> Result<Self, String> {
        text.trim()
            .replace('_', "")
            .parse()
            .map_err(|_| "expected a whole number that is not negative".into())
    }

    fn number(&self) -> Option<u64> {
        Some(*self)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A share: a number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl Value for Share {
    const KIND: &'static str = "number from 0 to 1";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err("expected a number from 0 to 1, such as 0.01".into()),
        }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Value for Duration {
    const KIND: &'static str = "ms";

    fn parse(text: &str) -> Result<Self, String> {
        u64::parse(text)
            .map(Self::from_millis)
            .map_err(|_| "expected a whole number of milliseconds, without a unit".into())
    }

    fn number(&self) -> Option<u64> {
        Some(millis(*self))
    }

    fn show(&self) -> String {
        millis(*self).to_string()
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";

    fn parse(text: &str) -> Result<Self, String> {
        String::parse(text).map(Self::from)
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for SocketAddr {
    const KIND: &'static str = "IP address and port";

    fn parse(text: &str) -> Result<Self, String> {
        text.trim()
            .parse()
            .map_err(|_| "expected an IP address and a port, such as 0.0.0.0:3000".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;
    const SECRET: bool = T::SECRET;
    const HIDDEN_IF_MALFORMED: bool = T::HIDDEN_IF_MALFORMED;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        T::parse(text).map(Some)
    }

    fn number(&self) -> Option<u64> {
        self.as_ref().and_then(T::number)
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// A password. Only [`Secret::expose`] returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for the library that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Value for Secret {
    const KIND: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        // Blanks may be part of a password, so the text stays unchanged.
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        MASK.into()
    }
}

/// The address of Postgres: a `postgres://` URL whose password is shown as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Url);

impl DatabaseUrl {
    /// The URL with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// The URL with `***` instead of passwords.
    #[must_use]
    pub fn masked(&self) -> String {
        let mut url = self.0.clone();
        if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
            return MASK.into();
        }
        if url.query().is_some() {
            let pairs: Vec<(String, String)> = url
                .query_pairs()
                .map(|(name, value)| {
                    let secret = name.to_ascii_lowercase().contains("password");
                    let shown = if secret {
                        MASK.into()
                    } else {
                        value.into_owned()
                    };
                    (name.into_owned(), shown)
                })
                .collect();
            url.query_pairs_mut().clear().extend_pairs(pairs);
        }
        url.into()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Value for DatabaseUrl {
    const KIND: &'static str = "URL";
    const HIDDEN_IF_MALFORMED: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "expected postgres://user:password@host:5432/database";
        let url = Url::parse(text.trim()).map_err(|error| format!("{error}; {FORM}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(format!("its scheme is {}; {FORM}", url.scheme()));
        }
        Ok(Self(url))
    }

    fn show(&self) -> String {
        self.masked()
    }
}

/// The text in the place of a secret.
pub const MASK: &str = "***";

/// A duration in whole milliseconds; at most 584 million years.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Declares an enum whose variants have one written form each, and optionally other accepted forms.
macro_rules! choices {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $text:literal $(| $alias:literal)* ),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$vmeta])* $variant ),+ }

        impl $name {
            /// The written form of the value in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text ),+ }
            }
        }

        impl $crate::config::value::Value for $name {
            const KIND: &'static str = $crate::config::value::choices!(@kind $($text),+);

            fn parse(text: &str) -> Result<Self, String> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $( $text $(| $alias)* => Ok(Self::$variant), )+
                    _ => Err(format!("expected {}", Self::KIND)),
                }
            }

            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
    (@kind $first:literal $(, $rest:literal)*) => { concat!($first $(, " or ", $rest)*) };
}
pub(crate) use choices;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_written_in_six_ways() {
        for text in ["true", "1", "yes", "TRUE", " Yes "] {
            assert_eq!(bool::parse(text), Ok(true), "{text}");
        }
        for text in ["false", "0", "no", "False"] {
            assert_eq!(bool::parse(text), Ok(false), "{text}");
        }
        assert!(bool::parse("on").is_err());
    }

    #[test]
    fn a_list_forgives_blanks_and_a_trailing_comma() {
        assert_eq!(
            Vec::parse(" a:1, b:2 ,"),
            Ok(vec!["a:1".to_owned(), "b:2".to_owned()])
        );
        assert!(Vec::<String>::parse(" , ").is_err());
    }

    #[test]
    fn a_share_is_a_number_from_0_to_1() {
        assert_eq!(Share::parse(" 0.01 "), Ok(Share(0.01)));
        assert_eq!(Share(0.25).show(), "0.25");
        for text in ["-0.1", "1.1", "NaN", "1%", ""] {
            assert!(Share::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_plain_milliseconds() {
        assert_eq!(Duration::parse("30_000"), Ok(Duration::from_secs(30)));
        assert!(Duration::parse("30s").is_err());
        assert!(Duration::parse("-1").is_err());
    }

    #[test]
    fn a_database_url_never_shows_its_password() {
        let url = DatabaseUrl::parse(
            "postgres://u:hunter2@db:5432/x?sslmode=require&sslpassword=hunter2",
        )
        .expect("a URL");
        assert!(url.expose().contains("hunter2"));
        for shown in [url.show(), format!("{url:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(
                shown.starts_with("postgres://u:***@db:5432/x?sslmode=require"),
                "{shown}"
            );
        }
        let refused = DatabaseUrl::parse("mysql://u:hunter2@db/x").expect_err("another database");
        assert!(!refused.contains("hunter2"));
    }

    #[test]
    fn a_secret_is_neither_shown_nor_trimmed() {
        let secret = Secret::parse(" hunter2 ").expect("a secret");
        assert_eq!(secret.expose(), " hunter2 ");
        assert_eq!(
            (secret.show(), format!("{secret:?}")),
            (MASK.into(), MASK.into())
        );
    }
}
