//! Times: milliseconds since 1970-01-01T00:00:00Z inside, RFC 3339 outside.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// The last millisecond that RFC 3339 can write: 9999-12-31T23:59:59.999Z.
pub const MILLIS_MAX: i64 = 253_402_300_799_999;

/// Whether a time can be written as RFC 3339 and is not before 1970.
pub fn is_valid(millis: i64) -> bool {
    (0..=MILLIS_MAX).contains(&millis)
}

/// RFC 3339 in UTC with milliseconds: `2024-01-01T00:00:00.000Z`. A time outside the years that the
/// format has is written as its nearest end.
pub fn to_rfc3339(millis: i64) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis.clamp(0, MILLIS_MAX)) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&format).ok())
        .unwrap_or_default()
}

/// Reads RFC 3339, cut to milliseconds; none if it is not a time from 1970 on.
pub fn from_rfc3339(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000))
        .ok()
        .filter(|millis| is_valid(*millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_time_comes_back_as_written() {
        let text = "2024-01-01T00:00:00.000Z";
        assert_eq!(from_rfc3339(text).map(to_rfc3339).as_deref(), Some(text));
    }

    #[test]
    fn offsets_are_understood_and_nonsense_is_not() {
        assert_eq!(
            from_rfc3339("2024-01-01T01:00:00+01:00"),
            from_rfc3339("2024-01-01T00:00:00Z")
        );
        for text in [
            "",
            "yesterday",
            "2024-13-01T00:00:00Z",
            "99999-01-01T00:00:00Z",
            "2024-01-01",
            "1969-12-31T23:59:59.9999Z",
        ] {
            assert_eq!(from_rfc3339(text), None, "{text}");
        }
    }
}
