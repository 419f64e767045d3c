//! The columns of a statement, and the types that are not built in: the database is asked for their names.

use std::collections::BTreeMap;

use postgres_protocol::message::backend::RowDescriptionBody;
use tokio_postgres::fallible_iterator::FallibleIterator as _;
use tokio_postgres::types::{Kind, Type};

use super::own::{OwnStatements, TYPES, texts};
use super::values::Column;
use super::wire::{Failed, Link, Reply, Trip};

/// A column as the server describes it.
pub(super) struct Described {
    name: String,
    oid: u32,
}

/// The types that a branch has met. Asked for anew by each: an OID may get another name, or be used again.
pub(super) type Types = BTreeMap<u32, Type>;

/// Reads a description; `None` when it is not one.
pub(super) fn described(body: &RowDescriptionBody) -> Option<Vec<Described>> {
    let mut columns = Vec::new();
    let mut fields = body.fields();
    while let Some(field) = fields.next().ok()? {
        columns.push(Described { name: field.name().to_owned(), oid: field.type_oid() });
    }
    Some(columns)
}

/// The columns, when all are of types that are built in.
pub(super) fn built_in(described: &[Described]) -> Option<Vec<Column>> {
    described
        .iter()
        .map(|column| Some(Column { name: column.name.clone(), ty: Type::from_oid(column.oid)? }))
        .collect()
}

/// The columns, after asking for what types of theirs are not known yet.
pub(super) async fn resolve(
    described: &[Described],
    types: &mut Types,
    link: &mut Link,
    own: &mut OwnStatements,
) -> Result<Vec<Column>, Failed> {
    let unknown =
        |column: &&Described| Type::from_oid(column.oid).is_none() && !types.contains_key(&column.oid);
    let oids: Vec<_> = described.iter().filter(unknown).map(|column| column.oid.to_string()).collect();
    if !oids.is_empty() {
        ask(&format!("{{{}}}", oids.join(",")), types, link, own).await?;
    }
    Ok(described
        .iter()
        .map(|column| Column { name: column.name.clone(), ty: find(column.oid, types) })
        .collect())
}

fn find(oid: u32, types: &Types) -> Type {
    Type::from_oid(oid).or_else(|| types.get(&oid).cloned()).unwrap_or_else(|| nameless(oid))
}

/// A type that the database does not name: its values are given as they came.
fn nameless(oid: u32) -> Type {
    Type::new(String::new(), oid, Kind::Simple, String::new())
}

async fn ask(oids: &str, types: &mut Types, link: &mut Link, own: &mut OwnStatements) -> Result<(), Failed> {
    let mut trip = Trip::default();
    own.begin_trip();
    if own.run(&mut trip, &TYPES, Some(oids)).is_err() {
        return Err(link.give_up("a question for types that has no form").into());
    }
    link.send(trip).await?;
    loop {
        match link.next().await? {
            Reply::Row(row) => {
                let read = texts::<3>(&row).and_then(|[oid, name, kind]| {
                    let kind = if kind? == "e" { Kind::Enum(Vec::new()) } else { Kind::Simple };
                    let oid = oid?.parse().ok()?;
                    Some((oid, Type::new(name?.to_owned(), oid, kind, String::new())))
                });
                let Some((oid, ty)) = read else { return Err(link.give_up("a row of pg_type").into()) };
                types.insert(oid, ty);
            }
            Reply::Refused(refusal) => return Err(link.skip(refusal).await),
            Reply::Ready => break,
            Reply::Parameters(_) | Reply::Columns(_) | Reply::NoColumns | Reply::Done(_) | Reply::Copy => {}
        }
    }
    own.end_trip();
    Ok(())
}
