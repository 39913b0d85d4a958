//! One row of the table of settings, and the macro that makes a section of it.
//!
//! A section is written once. The field's comment is the sentence in the documentation, and its type is the kind
//! of value. The rest of the line has default, range, environment variable and use. The struct, its reader and
//! its rows of the table are all made from those lines, so they can't disagree.

/// A setting: one environment variable and one key in `taskhost.toml`.
#[derive(Debug)]
pub struct Setting {
    /// Section and name, such as `kafka.brokers`.
    pub key: &'static str,
    /// The environment variable, such as `KAFKA_BROKERS`.
    pub env: &'static str,
    /// The default as it would be written; empty for none.
    pub default: &'static str,
    /// The expected kind of text.
    pub kind: &'static str,
    /// Smallest and largest value, for numbers.
    pub range: Option<(u64, u64)>,
    /// The unit of a number, if its kind doesn't imply it.
    pub unit: Option<&'static str>,
    /// Whether the value is never shown.
    pub secret: bool,
    /// Its meaning, in a sentence or two.
    pub about: &'static str,
    /// Its use: a property of librdkafka, or the part of the host that uses it.
    pub becomes: &'static str,
}

impl Setting {
    /// The part before the dot.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.key
            .split_once('.')
            .map_or(self.key, |(section, _)| section)
    }

    /// The part after the dot.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }
}

/// Declares a section: `field: Type = "default" [low..=high unit], "ENV" => "becomes";`, where range and unit
/// may be left out, and `field as "name"` gives the key another name than the field.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident in $section:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $(as $key:literal)? : $type:ty = $default:literal
                $([$low:literal ..= $high:literal $($unit:ident)?])?,
                $env:literal => $becomes:literal;
            )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $( $(#[doc = $doc])+ pub $field: $type, )+ }

        impl $name {
            /// The section's rows of the table of settings.
            pub const SETTINGS: &'static [$crate::config::setting::Setting] = &[ $(
                $crate::config::setting::Setting {
                    key: $crate::config::setting::section!(@key $section, $field $(, $key)?),
                    env: $env,
                    default: $default,
                    kind: <$type as $crate::config::value::Value>::KIND,
                    range: $crate::config::setting::section!(@range $($low, $high)?),
                    unit: $crate::config::setting::section!(@unit $($($unit)?)?),
                    secret: <$type as $crate::config::value::Value>::SECRET,
                    about: concat!($($doc),+),
                    becomes: $becomes,
                },
            )+ ];

            /// Reads the section; what is malformed becomes a problem and the default.
            pub(in $crate::config) fn read(input: &mut $crate::config::input::Input) -> Self {
                let mut rows = Self::SETTINGS.iter();
                $(
                    let row = rows.next().unwrap_or_else(|| unreachable!("a row for each field"));
                    let $field = input.take::<$type>(row);
                )+
                Self { $($field),+ }
            }
        }
    };
    (@key $section:literal, $field:ident) => { concat!($section, ".", stringify!($field)) };
    (@key $section:literal, $field:ident, $key:literal) => { concat!($section, ".", $key) };
    (@range) => { None };
    (@range $low:literal, $high:literal) => { Some(($low, $high)) };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(stringify!($unit)) };
}
pub(crate) use section;
