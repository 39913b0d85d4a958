//! Times on the way to Postgres: milliseconds since 1970 here, `timestamptz` there, exact both ways.
//!
//! Postgres counts microseconds since 2000 in 64 bits, so a conversion in integers loses nothing, where
//! `to_timestamp` goes through a floating-point number that is exact near today only.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef, Postgres,
};
use sqlx::{Decode, Encode, Type};
use time::OffsetDateTime;

/// Milliseconds from 1970-01-01 to 2000-01-01, Postgres' own zero.
const POSTGRES_EPOCH: i64 = 946_684_800_000;

/// Milliseconds since 1970, stored as a `timestamptz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Millis(pub(super) i64);

impl Type<Postgres> for Millis {
    fn type_info() -> PgTypeInfo {
        <OffsetDateTime as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Millis {
    fn array_type_info() -> PgTypeInfo {
        <OffsetDateTime as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for Millis {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self
            .0
            .checked_sub(POSTGRES_EPOCH)
            .and_then(|millis| millis.checked_mul(1000))
            .ok_or("a time is outside the years that Postgres has")?;
        Encode::<Postgres>::encode(micros, buffer)
    }

    fn size_hint(&self) -> usize {
        size_of::<i64>()
    }
}

impl<'r> Decode<'r, Postgres> for Millis {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                let micros: i64 = Decode::<Postgres>::decode(value)?;
                Ok(Self(micros.div_euclid(1000) + POSTGRES_EPOCH))
            }
            PgValueFormat::Text => Err("a time came as text".into()),
        }
    }
}
