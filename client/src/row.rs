//! Rows of a query.

use std::sync::Arc;

use votum_proto::v1;

use crate::{Error, FromValue, Value};

/// A column of a [`Row`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type's OID in `pg_type`.
    pub type_oid: u32,
    /// Its type's name, for people.
    pub type_name: String,
}

/// One row, with its columns by name or by place.
///
/// ```no_run
/// # async fn example(tx: votum_client::Transaction) -> Result<(), votum_client::Error> {
/// for row in tx.query("bank_a", "SELECT id, balance, note FROM account", &[]).await? {
///     let (id, balance): (i64, i64) = (row.get("id")?, row.get("balance")?);
///     let note = row.get::<Option<&str>>(2)?;
///     println!("{id}: {balance} {}", note.unwrap_or_default());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    columns: Arc<[Column]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(columns: Arc<[Column]>, row: v1::Row) -> Result<Self, Error> {
        if columns.len() != row.values.len() {
            return Err(Error::Contract(format!(
                "a row has {} values for {} columns",
                row.values.len(),
                columns.len()
            )));
        }
        Ok(Self { columns, values: row.values.into_iter().map(Value::from).collect() })
    }

    /// The value of one column, by its name (the first so named) or its place from 0.
    ///
    /// # Errors
    /// [`Error::Column`] when there is no such column, or its value is not of type `T`.
    pub fn get<'a, T: FromValue<'a>>(&'a self, column: impl ColumnIndex) -> Result<T, Error> {
        let missing =
            |asked| Error::Column { column: asked, problem: "does not exist in this row".to_owned() };
        let at = column.find(&self.columns).map_err(missing)?;
        let (Some(column), Some(value)) = (self.columns.get(at), self.values.get(at)) else {
            return Err(missing(at.to_string()));
        };
        T::from_value(value)
            .map_err(|problem| Error::Column { column: format!("{:?}", column.name), problem })
    }

    /// The columns, in the statement's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The values, in the order of the columns.
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

/// What finds a column: its name, or its place from 0.
pub trait ColumnIndex {
    /// The column's place.
    ///
    /// # Errors
    /// What was asked for, for people, when there is no such column.
    fn find(self, columns: &[Column]) -> Result<usize, String>;
}

impl ColumnIndex for &str {
    fn find(self, columns: &[Column]) -> Result<usize, String> {
        columns.iter().position(|column| column.name == self).ok_or_else(|| format!("{self:?}"))
    }
}

impl ColumnIndex for usize {
    fn find(self, columns: &[Column]) -> Result<usize, String> {
        if self < columns.len() { Ok(self) } else { Err(self.to_string()) }
    }
}

impl From<v1::Column> for Column {
    fn from(column: v1::Column) -> Self {
        Self { name: column.name, type_oid: column.type_oid, type_name: column.type_name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let column = |name: &str| Column { name: name.into(), type_oid: 20, type_name: "int8".into() };
        let values = vec![Value::from(7).into(), Value::Null.into()];
        Row::new([column("id"), column("note")].into(), v1::Row { values }).unwrap()
    }

    #[test]
    fn columns_are_found_by_name_and_by_place() {
        assert_eq!(row().get::<i64>("id").unwrap(), 7);
        assert_eq!(row().get::<i64>(0).unwrap(), 7);
        assert_eq!(row().get::<Option<i64>>("note").unwrap(), None);
    }

    #[test]
    fn an_error_names_the_column_and_what_it_holds() {
        let wrong_type = row().get::<i64>("note").unwrap_err().to_string();
        assert!(wrong_type.contains("\"note\"") && wrong_type.contains("NULL"), "{wrong_type}");
        assert!(row().get::<i64>("nothing").unwrap_err().to_string().contains("does not exist"));
        assert!(row().get::<i64>(2).is_err());
    }

    #[test]
    fn a_row_that_does_not_match_its_columns_is_refused() {
        assert!(matches!(
            Row::new([].into(), v1::Row { values: vec![v1::Value::default()] }),
            Err(Error::Contract(_))
        ));
    }
}
