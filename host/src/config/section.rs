//! The macro that makes a section of the configuration.
//!
//! A section is written once. The field's comment is the sentence in the documentation, and its type is the kind
//! of value. The rest of the line has default, range, environment variable and use. The struct, its reader and
//! its rows of the table are all made from those lines, so they can't disagree.

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
                    key: $crate::config::section::section!(@key $section, $field $(, $key)?),
                    env: $env,
                    default: $default,
                    kind: <$type as $crate::config::value::Value>::KIND,
                    range: $crate::config::section::section!(@range $($low, $high)?),
                    unit: $crate::config::section::section!(@unit $($($unit)?)?),
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
