//! One row of the table of settings.

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
