//! SQL values on their way through Votum and back, against what the server itself says of them.

use votum_client::{Transaction, Value};
use votum_proto::v1;
use votum_proto::v1::value::Kind;
use votum_tests::scene::{A, Scene};

/// A type, and values of it as PostgreSQL reads them.
type Samples = (&'static str, &'static [&'static str]);

/// What travels as text in both directions.
const AS_TEXT: [Samples; 14] = [
    ("text", &["", "a", "ä€😀", "with 'quotes' and \\", "line\nbreak\ttab"]),
    ("varchar(5)", &["", "abcde"]),
    ("char(5)", &["ab   "]),
    ("name", &["pg_class"]),
    (
        "numeric",
        &[
            "0",
            "0.00",
            "-0.5",
            "1",
            "12.50",
            "-12345.678900",
            "NaN",
            "Infinity",
            "-Infinity",
            "0.0000001",
            "10000",
            "99999999",
            "100000000",
            "123456789012345678901234567890.123456789012345678901234567890",
            "-0.00000000000000000000000000000000000001",
            "1000000000000000000000000000000000000000000000000",
        ],
    ),
    ("numeric(10,4)", &["1.5", "-0.0001", "0", "123456.7"]),
    (
        "date",
        &[
            "2026-11-21",
            "2000-01-01",
            "1999-12-31",
            "0001-01-01",
            "0001-12-31 BC",
            "4713-01-01 BC",
            "5874897-12-31",
            "infinity",
            "-infinity",
            "2024-02-29",
            "1900-02-28",
        ],
    ),
    ("time", &["00:00:00", "23:59:59.999999", "24:00:00", "12:30:00.5", "01:02:03.000004"]),
    ("timetz", &["12:30:00+00", "12:30:00.25+05:30", "00:00:00-08", "23:59:59+15:59:59"]),
    (
        "timestamp",
        &[
            "2026-11-21 11:45:42",
            "1970-01-01 00:00:00",
            "1999-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00 BC",
            "294276-12-31 23:59:59.5",
            "4713-01-01 00:00:00 BC",
        ],
    ),
    (
        "timestamptz",
        &[
            "2026-11-21 11:45:42+00",
            "2026-11-21 11:45:42.123456+05:30",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
        ],
    ),
    (
        "interval",
        &[
            "0",
            "1 day",
            "-1 day",
            "1 mon",
            "-1 years -2 mons",
            "1 year 2 mons 3 days 04:05:06.789",
            "-00:00:00.000001",
            "1 day -00:30:00",
            "-3 days 12:00:00",
            "178000000 years",
            "26:00:00",
        ],
    ),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("mood", &["glad", "sad"]),
];

/// What has a kind of its own on the wire is compared by the text that the server makes of it.
const JSON: [Samples; 2] = [
    ("json", &["null", "{\"a\": [1, 2.50, \"ä\"],  \"a\": 1}", "\"\""]),
    ("jsonb", &["null", "{\"b\": 1, \"a\": [1, 2.50, \"ä\"]}", "[]"]),
];

async fn open(scene: &Scene) -> anyhow::Result<Transaction> {
    scene.set_up(A, "CREATE TYPE mood AS ENUM ('glad', 'sad')").await?;
    let tx = scene.begin("values", &[], scene.teller.votum().begin()).await?;
    // In which PostgreSQL writes timestamps, to be compared with; what Votum sends does not depend on it.
    tx.execute(A, "SET LOCAL timezone = 'UTC'", &[]).await?;
    tx.execute(A, "SET LOCAL extra_float_digits = 3", &[]).await?;
    Ok(tx)
}

#[tokio::test]
async fn what_travels_as_text_reads_as_the_server_writes_it() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = open(&scene).await?;
    for (ty, samples) in AS_TEXT.iter().chain(&JSON) {
        for sample in *samples {
            let literal = format!("'{}'", sample.replace('\'', "''"));
            // The sample as a parameter, and as the server reads it from the statement's own text.
            let sql = format!(
                "SELECT $1::{ty} AS sent, {literal}::{ty} AS said, format('%s', {literal}::{ty}) AS text,
                        $1::{ty}::text IS NOT DISTINCT FROM {literal}::{ty}::text AS same"
            );
            let row = tx.query_one(A, &sql, &[(*sample).into()]).await?;
            let (sent, said, text): (&str, &str, &str) =
                (row.get("sent")?, row.get("said")?, row.get("text")?);
            assert_eq!(said, text, "{ty} {sample:?}");
            assert_eq!(sent, text, "{ty} {sample:?}");
            assert!(row.get::<bool>("same")?, "{ty} {sample:?}");
        }
    }
    tx.rollback().await?;
    scene.close().await
}

#[tokio::test]
async fn every_kind_of_value_survives_the_way_into_a_table_and_back() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = open(&scene).await?;
    let whole: Vec<u8> = (0..=255).collect();
    for (ty, values) in [
        ("bool", &[true.into(), false.into(), Value::Null][..]),
        ("int2", &[i16::MIN.into(), i16::MAX.into(), 0.into(), Value::Null]),
        ("int4", &[i32::MIN.into(), i32::MAX.into(), (-1).into(), Value::Null]),
        ("int8", &[i64::MIN.into(), i64::MAX.into(), Value::Null]),
        ("oid", &[u32::MAX.into(), 0.into()]),
        ("float4", &[0.5.into(), (-0.0).into(), f64::INFINITY.into(), Value::Null]),
        (
            "float8",
            &[
                0.1.into(),
                f64::MIN_POSITIVE.into(),
                f64::MAX.into(),
                f64::MIN.into(),
                5e-324.into(),
                f64::INFINITY.into(),
                f64::NEG_INFINITY.into(),
                Value::Null,
            ],
        ),
        ("text", &["ä€😀".into(), "".into(), "NULL".into(), Value::Null]),
        ("bytea", &[whole.into(), Vec::new().into(), b"\\x00".as_slice().into(), Value::Null]),
    ] {
        tx.execute(A, &format!("CREATE TABLE v_{ty} (n int8, v {ty})"), &[]).await?;
        for (n, value) in (0..).zip(values) {
            let insert = format!("INSERT INTO v_{ty} VALUES ($1, $2)");
            tx.execute(A, &insert, &[Value::Int(n), value.clone()]).await?;
            let select = format!("SELECT v FROM v_{ty} WHERE n = $1");
            let row = tx.query_one(A, &select, &[n.into()]).await?;
            assert_eq!(&row.values()[0], value, "{ty}");
        }
    }
    let nan = tx.query_one(A, "SELECT $1::float8", &[f64::NAN.into()]).await?;
    assert!(nan.get::<f64>(0)?.is_nan());
    tx.rollback().await?;
    scene.close().await
}

#[tokio::test]
async fn a_parameter_takes_the_type_of_the_place_where_it_stands() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = open(&scene).await?;
    tx.execute(A, "CREATE TABLE places (price numeric, at timestamptz, id uuid, doc jsonb, small int2)", &[])
        .await?;
    let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let row = tx
        .query_one(
            A,
            "INSERT INTO places VALUES ($1, $2, $3, $4, $5) RETURNING *",
            &[12.into(), "2026-11-21 12:00+01".into(), id.into(), "{\"a\": 1}".into(), 3.into()],
        )
        .await?;
    assert_eq!(
        row.values(),
        ["12".into(), "2026-11-21 11:00:00+00".into(), id.into(), "{\"a\": 1}".into(), Value::Int(3)]
    );
    let types: Vec<_> = row.columns().iter().map(|column| column.type_name.as_str()).collect();
    assert_eq!(types, ["numeric", "timestamptz", "uuid", "jsonb", "int2"]);
    tx.rollback().await?;
    scene.close().await
}

#[tokio::test]
async fn any_other_type_travels_as_the_servers_own_binary() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = open(&scene).await?;
    for (ty, literal) in [
        ("point", "(1.5,-2)"),
        ("int4[]", "{{1,2},{3,NULL}}"),
        ("text[]", "{a,\"b c\",NULL}"),
        ("inet", "192.168.1.0/24"),
        ("int4range", "[1,10)"),
        ("bit(9)", "101010101"),
        ("mood[]", "{glad,sad}"),
        ("pg_lsn", "16/B374D848"),
    ] {
        let row = tx.query_one(A, &format!("SELECT '{literal}'::{ty} AS v"), &[]).await?;
        let raw: Value = row.get("v")?;
        assert!(
            matches!(&raw, Value::Raw { type_oid, .. } if *type_oid == row.columns()[0].type_oid),
            "{raw:?}"
        );
        let sql = format!("SELECT $1::{ty} = '{literal}'::{ty} AS same, $1::{ty} AS v");
        let sql = if ty == "point" { sql.replace(" = ", " ~= ") } else { sql };
        let back = tx.query_one(A, &sql, std::slice::from_ref(&raw)).await?;
        assert!(back.get::<bool>("same")?, "{ty}");
        assert_eq!(back.get::<Value>("v")?, raw, "{ty}");
    }
    tx.rollback().await?;
    scene.close().await
}

#[tokio::test]
async fn raw_binary_on_request_is_what_the_server_sends() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.plain("raw", &[]).await?;
    let statement =
        "SELECT int4send(v), v, numeric_send(d), d, NULL::int4 FROM (VALUES (258, 1.5)) AS t (v, d)";
    let request = v1::ExecuteRequest { raw_binary: true, ..tx.request(A, 1, statement) };
    let reply = tx.send(request).await?;
    let values = &reply.rows[0].values;
    let raw = |index: usize| match &values[index].kind {
        Some(Kind::Raw(raw)) => (raw.type_oid, raw.data.clone()),
        other => panic!("{index}: {other:?}"),
    };
    assert_eq!((raw(1).0, raw(1).1.as_ref()), (23, &[0u8, 0, 1, 2][..]));
    assert_eq!((raw(0).1, raw(2).1), (raw(1).1, raw(3).1), "int4send and numeric_send say the same");
    assert_eq!(values[4].kind, Some(Kind::Null(true)));
    tx.roll_back().await?;
    scene.close().await
}

#[tokio::test]
async fn many_rows_and_large_values_arrive_whole() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = open(&scene).await?;
    let rows =
        tx.query(A, "SELECT n, repeat('x', 100) AS x FROM generate_series(1, 20000) AS n", &[]).await?;
    assert_eq!(rows.len(), 20_000);
    for (n, row) in (1..).zip(&rows) {
        assert_eq!(row.get::<i64>("n")?, n);
    }
    let large = "ä".repeat(4 << 20);
    let row = tx.query_one(A, "SELECT $1::text AS back", &[large.as_str().into()]).await?;
    assert!(row.get::<&str>("back")? == large, "eight megabytes came back changed");
    tx.rollback().await?;
    scene.close().await
}
