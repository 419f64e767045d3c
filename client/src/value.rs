//! SQL values, as parameters and in rows.

use bytes::Bytes;
use votum_proto::v1;
use votum_proto::v1::value::Kind;

/// One SQL value.
///
/// `numeric`, `date`, `timestamp`, `interval`, `uuid`, `json` and their like travel as text in both
/// directions, so that no digit is lost and no library is forced on you: pass `"12.50"`, read a `String`.
///
/// ```
/// use votum_client::Value;
/// assert_eq!(Value::from(5), Value::Int(5));
/// assert_eq!(Value::from("12.50"), Value::Text("12.50".to_owned()));
/// assert_eq!(Value::from(None::<i64>), Value::Null);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `smallint`, `integer`, `bigint`.
    Int(i64),
    /// `real`, `double precision`.
    Float(f64),
    /// `text`, `varchar`, `char`, `name`, and every type that travels as text.
    Text(String),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// PostgreSQL's binary form of any other type.
    Raw {
        /// The type's OID in `pg_type`.
        type_oid: u32,
        /// Its binary form.
        data: Bytes,
    },
}

impl Value {
    /// What kind of value it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a floating-point number",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Raw { .. } => "a raw binary value",
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from! {
    bool => Bool,
    i8 => Int, i16 => Int, i32 => Int, i64 => Int, u8 => Int, u16 => Int, u32 => Int,
    f32 => Float, f64 => Float,
    &str => Text, String => Text, &String => Text, std::borrow::Cow<'_, str> => Text,
    &[u8] => Bytes, Vec<u8> => Bytes, Bytes => Bytes,
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<Value> for v1::Value {
    fn from(value: Value) -> Self {
        let kind = match value {
            Value::Null => Kind::Null(true),
            Value::Bool(value) => Kind::Boolean(value),
            Value::Int(value) => Kind::Int64(value),
            Value::Float(value) => Kind::Float64(value),
            Value::Text(value) => Kind::Text(value),
            Value::Bytes(value) => Kind::Bytes(value),
            Value::Raw { type_oid, data } => Kind::Raw(v1::RawBinary { type_oid, data }),
        };
        Self { kind: Some(kind) }
    }
}

impl From<v1::Value> for Value {
    fn from(value: v1::Value) -> Self {
        match value.kind {
            None | Some(Kind::Null(_)) => Self::Null,
            Some(Kind::Boolean(value)) => Self::Bool(value),
            Some(Kind::Int64(value)) => Self::Int(value),
            Some(Kind::Float64(value)) => Self::Float(value),
            Some(Kind::Text(value)) => Self::Text(value),
            Some(Kind::Bytes(value)) => Self::Bytes(value),
            Some(Kind::Raw(raw)) => Self::Raw { type_oid: raw.type_oid, data: raw.data },
        }
    }
}

/// A Rust type that can be read from a [`Value`] without losing anything: an `integer` column is not read as
/// `f64`, nor a `bigint` that does not fit as `i32`. Only `Option` and `Value` take NULL.
///
/// ```
/// use votum_client::{FromValue, Value};
/// assert_eq!(i32::from_value(&Value::Int(7)), Ok(7));
/// assert!(i32::from_value(&Value::Int(1 << 40)).is_err());
/// assert_eq!(Option::<String>::from_value(&Value::Null), Ok(None));
/// ```
pub trait FromValue<'a>: Sized {
    /// Reads `value`.
    ///
    /// # Errors
    /// What is in the way, as the end of a sentence about a column.
    fn from_value(value: &'a Value) -> Result<Self, String>;
}

fn mismatch<T>(value: &Value, wanted: &str) -> Result<T, String> {
    Err(format!("holds {}, not {wanted}", value.kind()))
}

macro_rules! from_value {
    ($($type:ty, $wanted:literal, $pattern:pat => $read:expr;)*) => {$(
        impl<'a> FromValue<'a> for $type {
            fn from_value(value: &'a Value) -> Result<Self, String> {
                // One accepted kind; every other is refused alike.
                if let $pattern = value { $read } else { mismatch(value, $wanted) }
            }
        }
    )*};
}

fn fits<T: TryFrom<i64>>(number: i64) -> Result<T, String> {
    T::try_from(number)
        .map_err(|_| format!("holds {number}, which does not fit {}", std::any::type_name::<T>()))
}

from_value! {
    bool, "a boolean", Value::Bool(value) => Ok(*value);
    i16, "an integer", Value::Int(value) => fits(*value);
    i32, "an integer", Value::Int(value) => fits(*value);
    i64, "an integer", Value::Int(value) => Ok(*value);
    u32, "an integer", Value::Int(value) => fits(*value);
    u64, "an integer", Value::Int(value) => fits(*value);
    f64, "a floating-point number", Value::Float(value) => Ok(*value);
    &'a str, "text", Value::Text(value) => Ok(value);
    String, "text", Value::Text(value) => Ok(value.clone());
    &'a [u8], "bytes", Value::Bytes(value) => Ok(value);
    Vec<u8>, "bytes", Value::Bytes(value) => Ok(value.clone());
}

impl<'a> FromValue<'a> for Value {
    fn from_value(value: &'a Value) -> Result<Self, String> {
        Ok(value.clone())
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Option<T> {
    fn from_value(value: &'a Value) -> Result<Self, String> {
        if matches!(value, Value::Null) { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_survives_the_wire() {
        let raw = Value::Raw { type_oid: 600, data: Bytes::from_static(&[1, 2]) };
        let values = [
            Value::Null,
            true.into(),
            i64::MIN.into(),
            u32::MAX.into(),
            1.5.into(),
            "text".into(),
            String::from("owned").into(),
            vec![0u8, 255].into(),
            Some(3).into(),
            None::<&str>.into(),
            raw,
        ];
        for value in values {
            assert_eq!(Value::from(v1::Value::from(value.clone())), value);
        }
        assert_eq!(Value::from(v1::Value { kind: None }), Value::Null);
    }

    #[test]
    fn reading_loses_nothing_and_says_what_is_in_the_way() {
        assert_eq!(i64::from_value(&Value::Int(i64::MAX)), Ok(i64::MAX));
        assert!(i16::from_value(&Value::Int(40_000)).unwrap_err().contains("40000"));
        assert!(u64::from_value(&Value::Int(-1)).is_err());
        assert!(f64::from_value(&Value::Int(1)).unwrap_err().contains("an integer"));
        assert!(String::from_value(&Value::Null).unwrap_err().contains("NULL"));
        assert_eq!(<&str>::from_value(&Value::from("a")), Ok("a"));
        assert_eq!(Option::<bool>::from_value(&Value::Bool(true)), Ok(Some(true)));
        assert!(Option::<bool>::from_value(&Value::Int(1)).is_err());
    }
}
