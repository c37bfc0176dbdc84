//! Which tables and columns are found, and what is said of those that are not.

use std::collections::BTreeMap;

use highwater::source::{Selection, SourceErrorKind, TableOptions};

use crate::kit::{File, options, typed};

async fn names(file: &File, include: &[&str], exclude: &[&str]) -> Vec<String> {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let selection = Selection {
        include: owned(include),
        exclude: owned(exclude),
        ..Selection::default()
    };
    let found = file.source().discover(&selection).await.unwrap();
    let found = found.into_iter().map(|found| match found.table {
        Ok(table) => table.name.name,
        Err(error) => format!("{}: {error}", found.name),
    });
    found.collect()
}

fn several() -> File {
    File::new(
        "CREATE TABLE customers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
         INSERT INTO customers (name) VALUES ('a');
         CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INT);
         CREATE TABLE order_items (a INT, b INT, PRIMARY KEY (a, b)) WITHOUT ROWID;
         CREATE VIEW busy AS SELECT * FROM orders;
         CREATE VIRTUAL TABLE search USING fts5 (text);
         CREATE INDEX by_customer ON orders (customer);
         ANALYZE;",
    )
}

#[tokio::test]
async fn tables_only() {
    let file = several();
    assert_eq!(
        names(&file, &[], &[]).await,
        ["customers", "order_items", "orders"]
    );
    assert_eq!(names(&file, &["order*"], &["*_items"]).await, ["orders"]);
    assert_eq!(names(&file, &["main.Customers"], &[]).await, ["customers"]);
    assert_eq!(names(&file, &["nothing*"], &[]).await, [] as [&str; 0]);
}

#[tokio::test]
async fn names_that_match_nothing_are_explained() {
    let file = several();
    let found = names(&file, &["custmers", "busy", "search", "orders"], &[]).await;
    assert_eq!(found.len(), 4);
    assert!(found[0].contains("`busy` is a view:"), "{found:?}");
    assert!(found[1].contains("did you mean `customers`?"), "{found:?}");
    assert_eq!(found[2], "orders");
    assert!(
        found[3].contains("`search` is a virtual table:"),
        "{found:?}"
    );
    let selection = Selection {
        tables: BTreeMap::from([("ordes".to_owned(), options())]),
        ..Selection::default()
    };
    let found = file.source().discover(&selection).await.unwrap();
    let wrong = found
        .iter()
        .find(|found| found.name.name == "ordes")
        .unwrap();
    let error = wrong.table.as_ref().unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Usage);
    assert!(error.message.contains("did you mean `orders`?"), "{error}");
}

#[tokio::test]
async fn columns_are_chosen_and_wrong_ones_named() {
    let file = File::new("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, secret TEXT)");
    let only = |columns: &[&str], without: &[&str]| TableOptions {
        columns: columns.iter().map(|&c| c.to_owned()).collect(),
        exclude_columns: without.iter().map(|&c| c.to_owned()).collect(),
        ..TableOptions::default()
    };
    let table = file.table("t", only(&["NAME", "id"], &[])).await.unwrap();
    let names: Vec<_> = table
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(names, ["id", "name"]);
    let table = file.table("t", only(&[], &["id"])).await.unwrap();
    assert!(table.key.is_empty(), "half a key is none");
    for (options, says) in [
        (only(&["nmae"], &[]), "did you mean `name`?"),
        (only(&[], &["secrets"]), "did you mean `secret`?"),
        (only(&["id"], &["id"]), "no column is left"),
        (typed(&[("nam", "text")]), "did you mean `name`?"),
        (typed(&[("name", "timestmp")]), "did you mean `timestamp`?"),
        (typed(&[("name", "decimal(50,2)")]), "is not a type"),
        (
            TableOptions {
                filter: Some("nam = 1".to_owned()),
                ..options()
            },
            "does not accept",
        ),
        (
            TableOptions {
                filter: Some("name = \"x\"".to_owned()),
                ..options()
            },
            "no such column",
        ),
    ] {
        let error = file.table("t", options).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Usage, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
}

#[tokio::test]
async fn filters() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT);
         INSERT INTO t VALUES (1, 10), (2, 20), (3, NULL);",
    );
    let filter = |text: &str| TableOptions {
        filter: Some(text.to_owned()),
        ..options()
    };
    let ids = async |text: &str| file.read("t", filter(text)).await.column();
    assert_eq!(ids("v > 10 -- why not").await, ["2"]);
    assert_eq!(ids("v = 10 OR t.v IS NULL").await, ["1", "3"]);
}

#[tokio::test]
async fn keys() {
    let key = async |columns: &str, rest: &str| -> Vec<String> {
        let file = File::new(&format!("CREATE TABLE t ({columns}); {rest}"));
        let table = file.table("t", options()).await.unwrap();
        table.key_names().map(ToOwned::to_owned).collect()
    };
    assert_eq!(key("id INTEGER PRIMARY KEY, v", "").await, ["id"]);
    assert_eq!(key("id INTEGER PRIMARY KEY DESC, v", "").await, ["id"]);
    assert_eq!(key("a, b, c, PRIMARY KEY (c, a)", "").await, ["c", "a"]);
    assert_eq!(
        key("a TEXT PRIMARY KEY", "INSERT INTO t VALUES ('x');").await,
        ["a"]
    );
    assert_eq!(
        key("a TEXT PRIMARY KEY", "INSERT INTO t VALUES (NULL), (NULL);").await,
        [""; 0]
    );
    assert_eq!(key("a INT NOT NULL UNIQUE, b", "").await, ["a"]);
    assert_eq!(key("a INT UNIQUE, b", "").await, [""; 0]);
    let partial = "CREATE UNIQUE INDEX u ON t (a) WHERE a > 5; CREATE UNIQUE INDEX e ON t (a + 1);";
    assert_eq!(key("a INT NOT NULL", partial).await, [""; 0]);
}

#[tokio::test]
async fn odd_names() {
    let odd = [
        "select",
        "a \"quoted\" name",
        "mit.punkt",
        "näme;--",
        "[b]",
        "*",
    ];
    for name in odd {
        let quoted = name.replace('"', "\"\"");
        let file = File::new(&format!(
            "CREATE TABLE \"{quoted}\" (\"{quoted}\" INTEGER PRIMARY KEY, \"from\" TEXT);
             INSERT INTO \"{quoted}\" VALUES (7, 'x');"
        ));
        let found = file.source().discover(&Selection::default()).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].table.as_ref().unwrap().columns[0].name, name);
        assert_eq!(
            file.read(name, options()).await.rows(),
            [["7", "x"]],
            "{name}"
        );
    }
}

#[tokio::test]
async fn estimates_and_source_types() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, price NUMERIC(12, 2), any_of_it);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 1000)
         INSERT INTO t SELECT i * 1000, 1.5, 'hello' FROM c;",
    );
    let table = file.table("t", options()).await.unwrap();
    assert_eq!(table.estimated_rows, Some(1000));
    assert!(
        (10_000..40_000).contains(&table.estimated_bytes),
        "{}",
        table.estimated_bytes
    );
    let types: Vec<_> = table
        .columns
        .iter()
        .map(|column| column.source_type.as_str())
        .collect();
    assert_eq!(types, ["INTEGER", "NUMERIC(12, 2)", "any"]);
    assert!(!table.columns[0].nullable && table.columns[1].nullable);
}

#[tokio::test]
async fn large_files_are_estimated_without_reading_them() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400)
         INSERT INTO t SELECT i * 1000000, zeroblob(100000) FROM c;
         CREATE TABLE empty (a);",
    );
    let table = file.table("t", options()).await.unwrap();
    assert!(
        (350..450).contains(&table.estimated_rows.unwrap()),
        "{table:?}"
    );
    assert!(
        (38_000_000..44_000_000).contains(&table.estimated_bytes),
        "{table:?}"
    );
    let empty = file.table("empty", options()).await.unwrap();
    assert_eq!((empty.estimated_rows, empty.estimated_bytes), (Some(0), 0));
}
