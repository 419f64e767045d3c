//! SQL values on their way between the contract and the driver.

use bytes::{BufMut as _, Bytes, BytesMut};
use postgres_protocol::message::backend::DataRowBody;
use tokio_postgres::fallible_iterator::FallibleIterator as _;
use tokio_postgres::types::{Kind, Type};
use votum_proto::v1;
use votum_proto::v1::value::Kind as Value;

use super::text;
use super::wire::Form;

/// A parameter. Numbers, booleans and text go as text, and the server infers their type from where they
/// stand; so a `numeric` column takes an int64, and a `timestamptz` column takes text.
pub(super) struct Parameter<'a>(pub(super) &'a v1::Value);

impl Parameter<'_> {
    /// The type that is declared to the server, by its OID; `unknown` leaves it to infer one.
    pub(super) fn declared_type(&self) -> u32 {
        match &self.0.kind {
            Some(Value::Bytes(_)) => Type::BYTEA.oid(),
            Some(Value::Raw(raw)) if raw.type_oid != 0 => raw.type_oid,
            Some(
                Value::Raw(_)
                | Value::Null(_)
                | Value::Boolean(_)
                | Value::Int64(_)
                | Value::Float64(_)
                | Value::Text(_),
            )
            | None => Type::UNKNOWN.oid(),
        }
    }
}

impl std::fmt::Debug for Parameter<'_> {
    /// Parameters are the application's data: no log line shows them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Parameter<'_> {
    /// Writes it; false when it is NULL.
    pub(super) fn write(&self, out: &mut BytesMut) -> bool {
        match &self.0.kind {
            None | Some(Value::Null(_)) => return false,
            Some(Value::Boolean(value)) => out.put_slice(if *value { b"true" } else { b"false" }),
            Some(Value::Int64(value)) => out.put_slice(value.to_string().as_bytes()),
            Some(Value::Float64(value)) => out.put_slice(value.to_string().as_bytes()),
            Some(Value::Text(value)) => out.put_slice(value.as_bytes()),
            Some(Value::Bytes(value)) => out.put_slice(value),
            Some(Value::Raw(value)) => out.put_slice(&value.data),
        }
        true
    }

    /// In which form it is written.
    pub(super) fn form(&self) -> Form {
        match &self.0.kind {
            Some(Value::Bytes(_) | Value::Raw(_)) => Form::Binary,
            Some(
                Value::Null(_) | Value::Boolean(_) | Value::Int64(_) | Value::Float64(_) | Value::Text(_),
            )
            | None => Form::Text,
        }
    }
}

/// A column of a reply.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: Type,
}

/// The columns of a statement, as the contract shows them.
pub(super) fn columns(columns: &[Column]) -> Vec<v1::Column> {
    columns
        .iter()
        .map(|column| v1::Column {
            name: column.name.clone(),
            type_oid: column.ty.oid(),
            type_name: column.ty.name().to_owned(),
        })
        .collect()
}

/// One row; `None` when it is not one of these columns, or a value does not have the form that its type has.
pub(super) fn row(columns: &[Column], row: &DataRowBody, raw_binary: bool) -> Option<v1::Row> {
    let mut ranges = row.ranges();
    let mut values = Vec::with_capacity(columns.len());
    for column in columns {
        let kind = match ranges.next().ok()?? {
            None => Value::Null(true),
            Some(range) => {
                let bytes = row.buffer().get(range)?;
                if raw_binary { raw_value(&column.ty, bytes) } else { decode(&column.ty, bytes)? }
            }
        };
        values.push(v1::Value { kind: Some(kind) });
    }
    ranges.next().ok()?.is_none().then_some(v1::Row { values })
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
