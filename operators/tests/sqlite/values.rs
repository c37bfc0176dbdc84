//! Every storage class in a column of every affinity.

use arrow::datatypes::DataType;
use highwater::dataset::Fidelity;

use crate::kit::{File, options, typed};

/// One table whose column `v` is declared `declared`, with one row for each
/// value; ids count from 1.
fn column(declared: &str, values: &[&str]) -> File {
    let rows: Vec<_> = values.iter().map(|value| format!("({value})")).collect();
    File::new(&format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared});
         INSERT INTO t (v) VALUES {};",
        rows.join(", ")
    ))
}

const CLASSES: [&str; 8] = ["NULL", "42", "1.5", "'abc'", "x'00ff'", "1", "9e999", "'7'"];

/// What is kept of [`CLASSES`] as (id, text), and the ids of what is not.
async fn kept(declared: &str) -> (DataType, Vec<(i64, String)>, Vec<String>) {
    let file = column(declared, &CLASSES);
    let table = file.table("t", options()).await.unwrap();
    let got = file.read("t", options()).await;
    let rows = got.rows().into_iter();
    let rows = rows.map(|row| (row[0].parse().unwrap(), row[1].clone()));
    let bad = got.bad.iter().map(|bad| {
        assert_eq!(bad.column, "v");
        bad.key["id"].clone().unwrap()
    });
    (
        table.columns[1].lake_type.clone(),
        rows.collect(),
        bad.collect(),
    )
}

fn pairs(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected
        .iter()
        .map(|&(id, text)| (id, text.to_owned()))
        .collect()
}

#[tokio::test]
async fn integer_affinity() {
    let (lake, rows, bad) = kept("INTEGER").await;
    assert_eq!(lake, DataType::Int64);
    // '7' became an integer when it was inserted.
    assert_eq!(rows, pairs(&[(1, "null"), (2, "42"), (6, "1"), (8, "7")]));
    assert_eq!(bad, ["3", "4", "5", "7"]);
}

#[tokio::test]
async fn real_affinity() {
    let (lake, rows, bad) = kept("DOUBLE PRECISION").await;
    assert_eq!(lake, DataType::Float64);
    assert_eq!(
        rows,
        pairs(&[
            (1, "null"),
            (2, "42.0"),
            (3, "1.5"),
            (6, "1.0"),
            (7, "inf"),
            (8, "7.0")
        ])
    );
    assert_eq!(bad, ["4", "5"]);
}

#[tokio::test]
async fn text_affinity() {
    let (lake, rows, bad) = kept("VARCHAR(10)").await;
    assert_eq!(lake, DataType::Utf8);
    assert_eq!(
        rows,
        pairs(&[
            (1, "null"),
            (2, "42"),
            (3, "1.5"),
            (4, "abc"),
            (6, "1"),
            (7, "Inf"),
            (8, "7")
        ])
    );
    assert_eq!(bad, ["5"]);
}

#[tokio::test]
async fn blob_affinity() {
    let (lake, rows, bad) = kept("BLOB").await;
    assert_eq!(lake, DataType::Binary);
    assert_eq!(rows, pairs(&[(1, "null"), (5, "00ff")]));
    assert_eq!(bad, ["2", "3", "4", "6", "7", "8"]);
}

#[tokio::test]
async fn no_declared_type_keeps_literals() {
    let (lake, rows, bad) = kept("").await;
    assert_eq!(lake, DataType::Utf8);
    let expected = [
        (1, "null"),
        (2, "42"),
        (3, "1.5"),
        (4, "'abc'"),
        (5, "x'00ff'"),
        (6, "1"),
        (7, "9.0e+999"),
        (8, "'7'"),
    ];
    assert_eq!(rows, pairs(&expected));
    assert!(bad.is_empty());
}

#[tokio::test]
async fn literals_restore_value_and_storage_class() {
    let file = column("", &CLASSES);
    let back = file.writer();
    back.execute_batch("CREATE TABLE back (v)").unwrap();
    for text in file.read("t", options()).await.rows() {
        back.execute_batch(&format!("INSERT INTO back VALUES ({})", text[1]))
            .unwrap();
    }
    let differences: i64 = back
        .query_row(
            "SELECT count(*) FROM t JOIN back ON t.rowid = back.rowid
             WHERE t.v IS NOT back.v OR typeof(t.v) <> typeof(back.v)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(differences, 0);
}

#[tokio::test]
async fn numeric_affinity_is_exact_text_that_restores() {
    for declared in ["NUMERIC", "DECIMAL(10,2)", "DATETIME", "MONEY"] {
        let (lake, rows, bad) = kept(declared).await;
        assert_eq!(lake, DataType::Utf8);
        let expected = [
            (1, "null"),
            (2, "42"),
            (3, "1.5"),
            (4, "abc"),
            (6, "1"),
            (7, "9.0e+999"),
            (8, "7"),
        ];
        assert_eq!(rows, pairs(&expected), "{declared}");
        assert_eq!(bad, ["5"]);
        // Inserted again as text, affinity makes of it what it was.
        let file = column(declared, &CLASSES);
        let back = file.writer();
        back.execute_batch(&format!(
            "CREATE TABLE back (id INTEGER PRIMARY KEY, v {declared})"
        ))
        .unwrap();
        for (id, text) in rows.iter().filter(|(_, text)| text != "null") {
            back.execute("INSERT INTO back VALUES (?1, ?2)", (id, text))
                .unwrap();
        }
        let same: i64 = back
            .query_row(
                "SELECT count(*) FROM t JOIN back USING (id)
                 WHERE t.v = back.v AND typeof(t.v) = typeof(back.v)",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(same, 6, "{declared}");
    }
}

#[tokio::test]
async fn booleans() {
    let (lake, rows, bad) = kept("BOOLEAN").await;
    assert_eq!(lake, DataType::Boolean);
    assert_eq!(rows, pairs(&[(1, "null"), (6, "true")]));
    assert_eq!(bad, ["2", "3", "4", "5", "7", "8"]);
}

#[tokio::test]
async fn extremes() {
    let file = column("INTEGER", &["9223372036854775807", "-9223372036854775808"]);
    let rows = file.read("t", options()).await.rows();
    assert_eq!(rows[0][1], "9223372036854775807");
    assert_eq!(rows[1][1], "-9223372036854775808");
    let file = column("REAL", &["1.7976931348623157e308", "5e-324", "-0.0", "0.1"]);
    let rows = file.read("t", options()).await.rows();
    let values: Vec<f64> = rows.iter().map(|row| row[1].parse().unwrap()).collect();
    let bits: Vec<_> = values.iter().map(|value| value.to_bits()).collect();
    // SQLite itself keeps no negative zero.
    let expected = [f64::MAX, 5e-324, 0.0, 0.1].map(f64::to_bits);
    assert_eq!(bits, expected);
}

#[tokio::test]
async fn invalid_utf8_is_quarantined_whatever_the_column() {
    for declared in ["TEXT", "", "NUMERIC"] {
        let file = column(declared, &["'ok'", "CAST(x'61ff62' AS TEXT)"]);
        let got = file.read("t", options()).await;
        assert_eq!(got.rows().len(), 1, "{declared}");
        assert_eq!(got.bad[0].value, "CAST(x'61ff62' AS TEXT)");
        assert!(got.bad[0].reason.contains("UTF-8"), "{}", got.bad[0].reason);
    }
}

#[tokio::test]
async fn overrides() {
    let values = [
        "'2024-02-29 13:05:06.25'",
        "'2024-02-30 00:00:00'",
        "1709211906",
        "NULL",
    ];
    let file = column("DATETIME", &values);
    let got = file.read("t", typed(&[("V", "timestamp")])).await;
    assert_eq!(
        got.rows(),
        [["1", "2024-02-29T13:05:06.250"], ["4", "null"]]
    );
    assert_eq!(got.bad.len(), 2);

    let file = column(
        "DATETIME",
        &["'2024-02-29T13:05:06+02:00'", "'2024-02-29T13:05:06'"],
    );
    let got = file.read("t", typed(&[("v", "timestamptz")])).await;
    assert_eq!(got.rows(), [["1", "2024-02-29T11:05:06Z"]]);
    assert_eq!(got.bad.len(), 1);

    let file = column("DATE", &["'2024-02-29'", "'29.2.2024'"]);
    let got = file.read("t", typed(&[("v", "date")])).await;
    assert_eq!(got.rows(), [["1", "2024-02-29"]]);
    assert_eq!(got.bad[0].value, "'29.2.2024'");

    let file = column(
        "NUMERIC",
        &["19.99", "7", "'x'", "1.005", "12345678.9", "-0.1"],
    );
    let got = file.read("t", typed(&[("v", "decimal(9,2)")])).await;
    assert_eq!(got.rows(), [["1", "19.99"], ["2", "7.00"], ["6", "-0.10"]]);
    assert_eq!(got.bad.len(), 3);

    let file = column("TEXT", &["'5'", "'05'", "'5.5'"]);
    assert_eq!(
        file.read("t", typed(&[("v", "integer")])).await.rows(),
        [["1", "5"]]
    );
    assert_eq!(
        file.read("t", typed(&[("v", "double")])).await.rows(),
        [["1", "5.0"], ["3", "5.5"]]
    );

    let file = column("", &["5", "'five'", "x'05'"]);
    let got = file.read("t", typed(&[("v", "text")])).await;
    assert_eq!(got.rows(), [["1", "5"], ["2", "five"]]);
    assert_eq!(got.bad.len(), 1);
}

#[tokio::test]
async fn an_integer_in_a_real_column_of_a_strict_table_and_any() {
    let file = File::new(
        "CREATE TABLE t (i INT PRIMARY KEY, r REAL, t TEXT, b BLOB, a ANY) STRICT;
         INSERT INTO t VALUES (1, 2, 'x', x'01', '1'), (2, 0.5, NULL, NULL, 1);",
    );
    let table = file.table("t", options()).await.unwrap();
    let exact: Vec<_> = table
        .columns
        .iter()
        .map(|c| c.fidelity == Fidelity::Exact)
        .collect();
    assert_eq!(exact, [true, true, false, true, false]);
    assert_eq!(table.key, [0]);
    let got = file.read("t", options()).await;
    assert_eq!(
        got.rows(),
        [
            ["1", "2.0", "x", "01", "'1'"],
            ["2", "0.5", "null", "null", "1"]
        ]
    );
    assert!(got.bad.is_empty());
}

#[tokio::test]
async fn bad_rows_without_key_name_their_rowid_and_long_values_are_cut() {
    let long = "x".repeat(5000);
    let file = File::new(&format!(
        "CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1), ('{long}'), (3);"
    ));
    let got = file.read("t", options()).await;
    assert_eq!(got.column(), ["1", "3"]);
    assert_eq!(got.bad[0].key["rowid"].as_deref(), Some("2"));
    assert_eq!(got.bad[0].value.len(), 1024);
}

#[tokio::test]
async fn a_column_of_nothing_but_bad_values() {
    let file = File::new(
        "CREATE TABLE t (n INTEGER);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 5000)
         INSERT INTO t SELECT 'no ' || i FROM c;",
    );
    let got = file.read("t", options()).await;
    assert!(got.batches.is_empty());
    assert_eq!(got.bad.len(), 5000);
}

#[tokio::test]
async fn generated_columns_are_read() {
    let file = File::new(
        "CREATE TABLE t (a INTEGER, b INTEGER GENERATED ALWAYS AS (a * 2) STORED, c AS (a + 1));
         INSERT INTO t (a) VALUES (5);",
    );
    assert_eq!(file.read("t", options()).await.rows(), [["5", "10", "6"]]);
}
