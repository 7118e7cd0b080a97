//! Column types that mean the same on both databases, and how they become values of `kubeop-core`.
//!
//! Invariant: what is written reads back equal, and sorts equally, on SQLite and PostgreSQL.

use jiff::Timestamp;
use kubeop_core::Error;
use kubeop_core::id::{AppId, ClusterId, InstanceId, KubeconfigId, ProjectId, TenantId};
use kubeop_core::name::{Host, Label};
use rust_decimal::Decimal;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Database, Decode, Encode, Postgres, Sqlite, Type, ValueRef, encode::IsNull};
use uuid::Uuid;

/// A time, cut to microseconds when made: `timestamptz` on PostgreSQL, microseconds since 1970 as `INTEGER` on SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ts(Timestamp);

/// 2000-01-01, PostgreSQL's epoch, in microseconds since 1970.
const PG_EPOCH_US: i64 = 946_684_800_000_000;
/// `timestamptz` and its array type in PostgreSQL's catalogue.
const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMPTZ_ARRAY: Oid = Oid(1185);

impl From<Timestamp> for Ts {
    fn from(time: Timestamp) -> Self {
        Self(kubeop_core::clock::to_micros(time))
    }
}

impl From<Ts> for Timestamp {
    fn from(time: Ts) -> Self {
        time.0
    }
}

impl Type<Sqlite> for Ts {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }

    fn compatible(ty: &SqliteTypeInfo) -> bool {
        <i64 as Type<Sqlite>>::compatible(ty)
    }
}

impl Encode<'_, Sqlite> for Ts {
    fn encode_by_ref(&self, buf: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<Sqlite>>::encode(self.0.as_microsecond(), buf)
    }
}

impl Decode<'_, Sqlite> for Ts {
    fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self(Timestamp::from_microsecond(<i64 as Decode<Sqlite>>::decode(value)?)?))
    }
}

impl Type<Postgres> for Ts {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl PgHasArrayType for Ts {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY)
    }
}

impl Ts {
    /// As PostgreSQL's binary form holds it. (Times reach from the year -9999 to 9999, so nothing overflows.)
    pub(crate) fn pg_micros(self) -> i64 {
        self.0.as_microsecond() - PG_EPOCH_US
    }
}

impl Encode<'_, Postgres> for Ts {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<Postgres>>::encode(self.pg_micros(), buf)
    }
}

impl Decode<'_, Postgres> for Ts {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a timestamptz in text form".into());
        }
        let micros = <i64 as Decode<Postgres>>::decode(value)?;
        let micros = micros.checked_add(PG_EPOCH_US).ok_or("timestamp out of range")?;
        Ok(Self(Timestamp::from_microsecond(micros)?))
    }
}

/// An exact decimal, without trailing zeros: `numeric` on PostgreSQL, its text on SQLite (whose own NUMERIC keeps 15 digits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dec(Decimal);

impl From<Decimal> for Dec {
    fn from(number: Decimal) -> Self {
        Self(number.normalize())
    }
}

impl From<Dec> for Decimal {
    fn from(number: Dec) -> Self {
        number.0
    }
}

impl Type<Sqlite> for Dec {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }

    fn compatible(ty: &SqliteTypeInfo) -> bool {
        <String as Type<Sqlite>>::compatible(ty)
    }
}

impl Encode<'_, Sqlite> for Dec {
    fn encode_by_ref(&self, buf: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        <String as Encode<Sqlite>>::encode(self.0.to_string(), buf)
    }
}

impl Decode<'_, Sqlite> for Dec {
    fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self::from(Decimal::from_str_exact(&<String as Decode<Sqlite>>::decode(value)?)?))
    }
}

impl Type<Postgres> for Dec {
    fn type_info() -> PgTypeInfo {
        <Decimal as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Dec {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <Decimal as Encode<Postgres>>::encode_by_ref(&self.0, buf)
    }
}

impl Decode<'_, Postgres> for Dec {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self::from(<Decimal as Decode<Postgres>>::decode(value)?))
    }
}

/// Columns that are read as an inner type and then converted: `#[sqlx(try_from = "Id")]` on a field of an id type, and so on.
macro_rules! reads_as {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name(pub(crate) $inner);

        impl<DB: Database> Type<DB> for $name
        where
            $inner: Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <$inner as Type<DB>>::type_info()
            }

            fn compatible(ty: &DB::TypeInfo) -> bool {
                <$inner as Type<DB>>::compatible(ty)
            }
        }

        impl<'r, DB: Database> Decode<'r, DB> for $name
        where
            $inner: Decode<'r, DB>,
        {
            fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
                <$inner as Decode<'r, DB>>::decode(value).map(Self)
            }
        }
    )*};
}

reads_as! {
    /// A UUID on its way to an id type.
    Id(Uuid);
    /// Text on its way to a parsed type.
    Text(String);
}

macro_rules! ids {
    ($($name:ident)*) => {$(
        impl From<Id> for $name {
            fn from(id: Id) -> Self {
                Self(id.0)
            }
        }

        impl From<Maybe<Id>> for Option<$name> {
            fn from(id: Maybe<Id>) -> Self {
                id.0.map(|id| $name(id.0))
            }
        }
    )*};
}

ids!(AppId ClusterId InstanceId KubeconfigId ProjectId TenantId);

impl TryFrom<Text> for Label {
    type Error = Error;

    fn try_from(text: Text) -> Result<Self, Error> {
        Self::parse(&text.0)
    }
}

impl TryFrom<Text> for Host {
    type Error = Error;

    fn try_from(text: Text) -> Result<Self, Error> {
        Self::parse(&text.0)
    }
}

/// A column that may be NULL, on its way to an `Option` (which, being foreign, cannot be converted into from an `Option` of ours).
#[derive(Debug)]
pub(crate) struct Maybe<T>(Option<T>);

impl From<Maybe<Ts>> for Option<Timestamp> {
    fn from(time: Maybe<Ts>) -> Self {
        time.0.map(Timestamp::from)
    }
}

impl<T, DB: Database> Type<DB> for Maybe<T>
where
    T: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        T::type_info()
    }

    fn compatible(ty: &DB::TypeInfo) -> bool {
        T::compatible(ty)
    }
}

impl<'r, T, DB: Database> Decode<'r, DB> for Maybe<T>
where
    T: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.is_null() { Ok(Self(None)) } else { T::decode(value).map(|value| Self(Some(value))) }
    }
}

/// A list for `= ANY($n)` on PostgreSQL (an array) and `IN (SELECT ... FROM json_each($n))` on SQLite (a JSON array).
#[derive(Debug)]
pub(crate) struct Many<T>(pub(crate) Vec<T>);

/// How an element stands in the JSON array.
pub(crate) trait InJson {
    fn in_json(&self) -> serde_json::Value;
}

impl InJson for Uuid {
    fn in_json(&self) -> serde_json::Value {
        self.to_string().into()
    }
}

impl InJson for String {
    fn in_json(&self) -> serde_json::Value {
        self.as_str().into()
    }
}

impl InJson for Ts {
    fn in_json(&self) -> serde_json::Value {
        self.0.as_microsecond().into()
    }
}

impl<T> Type<Sqlite> for Many<T> {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl<T: InJson> Encode<'_, Sqlite> for Many<T> {
    fn encode_by_ref(&self, buf: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        let list: Vec<serde_json::Value> = self.0.iter().map(InJson::in_json).collect();
        <String as Encode<Sqlite>>::encode(serde_json::to_string(&list)?, buf)
    }
}

impl<T> Type<Postgres> for Many<T>
where
    Vec<T>: Type<Postgres>,
{
    fn type_info() -> PgTypeInfo {
        <Vec<T> as Type<Postgres>>::type_info()
    }
}

impl<'q, T> Encode<'q, Postgres> for Many<T>
where
    Vec<T>: Encode<'q, Postgres>,
{
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <Vec<T> as Encode<Postgres>>::encode_by_ref(&self.0, buf)
    }
}

/// Text from outside without NUL (which PostgreSQL refuses and SQLite keeps), at most `max` characters.
pub(crate) fn clean(text: &str, max: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_to_microseconds_when_made() {
        let time: Timestamp = "2026-03-01T10:00:00.123456789Z".parse().unwrap();
        assert_eq!(Timestamp::from(Ts::from(time)), "2026-03-01T10:00:00.123456Z".parse().unwrap());
    }

    #[test]
    fn a_decimal_has_one_form() {
        let long = Dec::from(Decimal::from_str_exact("0.0000002000").unwrap());
        assert_eq!(Decimal::from(long).to_string(), "0.0000002");
    }

    #[test]
    fn cleaning_drops_nul_and_bounds() {
        assert_eq!(clean("a\0bc", 2), "ab");
    }
}
