//! SQL values on their way between the contract and the driver.

use std::error::Error;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type};
use tokio_postgres::{Column, Row};
use votum_proto::v1;
use votum_proto::v1::value::Kind as Value;

use super::text;

/// A parameter. Numbers, booleans and text go as text, and the server infers their type from where they
/// stand; so a `numeric` column takes an int64, and a `timestamptz` column takes text.
pub(super) struct Parameter<'a>(pub(super) &'a v1::Value);

impl Parameter<'_> {
    /// The type that is declared to the server; `unknown` leaves it to infer one.
    pub(super) fn declared_type(&self) -> Type {
        match &self.0.kind {
            Some(Value::Bytes(_)) => Type::BYTEA,
            Some(Value::Raw(raw)) if raw.type_oid != 0 => Type::from_oid(raw.type_oid)
                .unwrap_or_else(|| Type::new(String::new(), raw.type_oid, Kind::Simple, String::new())),
            Some(
                Value::Raw(_)
                | Value::Null(_)
                | Value::Boolean(_)
                | Value::Int64(_)
                | Value::Float64(_)
                | Value::Text(_),
            )
            | None => Type::UNKNOWN,
        }
    }
}

impl std::fmt::Debug for Parameter<'_> {
    /// Parameters are the application's data: no log line shows them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match &self.0.kind {
            None | Some(Value::Null(_)) => return Ok(IsNull::Yes),
            Some(Value::Boolean(value)) => out.put_slice(if *value { b"true" } else { b"false" }),
            Some(Value::Int64(value)) => out.put_slice(value.to_string().as_bytes()),
            Some(Value::Float64(value)) => out.put_slice(value.to_string().as_bytes()),
            Some(Value::Text(value)) => out.put_slice(value.as_bytes()),
            Some(Value::Bytes(value)) => out.put_slice(value),
            Some(Value::Raw(value)) => out.put_slice(&value.data),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(ty, out)
    }

    fn encode_format(&self, _: &Type) -> Format {
        match &self.0.kind {
            Some(Value::Bytes(_) | Value::Raw(_)) => Format::Binary,
            Some(
                Value::Null(_) | Value::Boolean(_) | Value::Int64(_) | Value::Float64(_) | Value::Text(_),
            )
            | None => Format::Text,
        }
    }
}

/// The columns of a statement, as the contract shows them.
pub(super) fn columns(columns: &[Column]) -> Vec<v1::Column> {
    columns
        .iter()
        .map(|column| v1::Column {
            name: column.name().to_owned(),
            type_oid: column.type_().oid(),
            type_name: column.type_().name().to_owned(),
        })
        .collect()
}

/// A value as it came, of any type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// One row; `None` when a value does not have the form that its type has.
pub(super) fn row(row: &Row, raw_binary: bool) -> Option<v1::Row> {
    let mut values = Vec::with_capacity(row.len());
    for (index, column) in row.columns().iter().enumerate() {
        let raw: Option<Raw<'_>> = row.try_get(index).ok()?;
        let kind = match raw {
            None => Value::Null(true),
            Some(Raw(bytes)) if raw_binary => raw_value(column.type_(), bytes),
            Some(Raw(bytes)) => decode(column.type_(), bytes)?,
        };
        values.push(v1::Value { kind: Some(kind) });
    }
    Some(v1::Row { values })
}

fn raw_value(ty: &Type, bytes: &[u8]) -> Value {
    Value::Raw(v1::RawBinary { type_oid: ty.oid(), data: Bytes::copy_from_slice(bytes) })
}

fn utf8(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn decode(ty: &Type, bytes: &[u8]) -> Option<Value> {
    let text = match *ty {
        Type::BOOL => return Some(Value::Boolean(bytes.first()? != &0)),
        Type::INT2 => return Some(Value::Int64(i16::from_be_bytes(bytes.try_into().ok()?).into())),
        Type::INT4 => return Some(Value::Int64(i32::from_be_bytes(bytes.try_into().ok()?).into())),
        Type::INT8 => return Some(Value::Int64(i64::from_be_bytes(bytes.try_into().ok()?))),
        Type::OID => return Some(Value::Int64(u32::from_be_bytes(bytes.try_into().ok()?).into())),
        Type::FLOAT4 => return Some(Value::Float64(f32::from_be_bytes(bytes.try_into().ok()?).into())),
        Type::FLOAT8 => return Some(Value::Float64(f64::from_be_bytes(bytes.try_into().ok()?))),
        Type::BYTEA => return Some(Value::Bytes(bytes.to_vec())),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON => utf8(bytes)?,
        // The binary form of jsonb is its text behind a version.
        Type::JSONB => match bytes.split_first()? {
            (1, text) => utf8(text)?,
            _ => return None,
        },
        Type::NUMERIC => text::numeric(bytes)?,
        Type::DATE => text::date(bytes)?,
        Type::TIME => text::time(bytes)?,
        Type::TIMETZ => text::timetz(bytes)?,
        Type::TIMESTAMP => text::timestamp(bytes, "")?,
        Type::TIMESTAMPTZ => text::timestamp(bytes, "+00")?,
        Type::INTERVAL => text::interval(bytes)?,
        Type::UUID => text::uuid(bytes)?,
        _ if matches!(ty.kind(), Kind::Enum(_)) => utf8(bytes)?,
        _ => return Some(raw_value(ty, bytes)),
    };
    Some(Value::Text(text))
}
