//! The sample shop: all of it can be read, nothing is quarantined.

use highwater::source::{Selection, TableRead};

use crate::kit::read_all;

#[tokio::test]
async fn the_shop_is_read_whole() {
    let url = format!(
        "sqlite://{}/../data/shop.sqlite",
        env!("CARGO_MANIFEST_DIR")
    );
    let source = highwater_operators::ingest::sqlite::open(&url).unwrap();
    let found = source.discover(&Selection::default()).await.unwrap();
    let snapshot = source.snapshot(2).await.unwrap();
    let mut rows = Vec::new();
    for found in found {
        let table = found.table.unwrap();
        assert!(!table.key.is_empty(), "{} has a key", table.name);
        let read = TableRead {
            table,
            filter: None,
            cursor: None,
            since: None,
            projection: Default::default(),
        };
        let got = read_all(&*snapshot, &read, 20_000, 10_000).await;
        assert!(got.bad.is_empty(), "{:?}", got.bad);
        let count: usize = got.batches.iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(read.table.estimated_rows, Some(count as u64));
        rows.push((read.table.name.name, count));
    }
    let expected = [
        ("customers", 400),
        ("order_items", 3289),
        ("orders", 1500),
        ("products", 84),
        ("reviews", 1200),
    ];
    assert_eq!(rows, expected.map(|(name, count)| (name.to_owned(), count)));
}
