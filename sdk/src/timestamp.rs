//! A point in time: milliseconds as in the host, RFC 3339 in JSON.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// 0000-01-01T00:00:00.000Z, the first moment that RFC 3339 can write.
const FIRST_MS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z, the last one.
const LAST_MS: i64 = 253_402_300_799_999;

/// Milliseconds since 1970-01-01T00:00:00Z.
///
/// Displayed and serialized as RFC 3339 in UTC with milliseconds, such as `2024-01-01T00:00:00.000Z`. A time outside the
/// years 0 to 9999 is written as the nearest time inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time this many milliseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The time that much later, at most the latest possible one.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Reads an RFC 3339 time; fractions of a millisecond are cut off.
    ///
    /// # Errors
    ///
    /// If the text is not an RFC 3339 time.
    pub fn parse(text: &str) -> Result<Self, NotRfc3339> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotRfc3339)?;
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(millis).map(Self).map_err(|_| NotRfc3339)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.clamp(FIRST_MS, LAST_MS);
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
            .expect("clamped to the years that the library knows");
        let (date, time) = (moment.date(), moment.time());
        let (hour, minute, second, milli) = time.as_hms_milli();
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is not an RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRfc3339;

impl fmt::Display for NotRfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 time")
    }
}

impl std::error::Error for NotRfc3339 {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_milliseconds_in_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_704_067_200_007, "2024-01-01T00:00:00.007Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (FIRST_MS, "0000-01-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
            assert_eq!(Timestamp::parse(text), Ok(Timestamp::from_millis(millis)));
        }
    }

    #[test]
    fn a_time_that_no_calendar_holds_is_written_as_the_nearest_one() {
        assert_eq!(
            Timestamp::from_millis(i64::MIN).to_string(),
            "0000-01-01T00:00:00.000Z"
        );
        assert_eq!(
            Timestamp::from_millis(i64::MAX).to_string(),
            "9999-12-31T23:59:59.999Z"
        );
    }

    #[test]
    fn offsets_and_fractions_are_read() {
        let noon = Timestamp::parse("2024-01-01T12:00:00Z");
        assert_eq!(Timestamp::parse("2024-01-01T13:00:00+01:00"), noon);
        assert_eq!(Timestamp::parse("2024-01-01T12:00:00.000999Z"), noon);
        for text in [
            "",
            "2024-01-01",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00",
            "yesterday",
        ] {
            assert_eq!(Timestamp::parse(text), Err(NotRfc3339), "{text}");
        }
    }

    #[test]
    fn later_saturates() {
        let second = Duration::from_secs(1);
        assert_eq!(Timestamp::from_millis(5).after(second).millis(), 1005);
        assert_eq!(
            Timestamp::from_millis(i64::MAX)
                .after(Duration::MAX)
                .millis(),
            i64::MAX
        );
    }
}
