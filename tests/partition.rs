//! Hive partitions: readers prune by them, and the rows are the same.

use crate::kit;

use kit::lake::Lake;
use kit::oracle::{Check, rows};
use kit::postgres::Database;
use kit::shop;

#[test]
fn by_a_column_with_nulls_and_names_that_need_escapes() {
    let database = Database::create();
    database.sql(
        "create table orders (id int primary key, shop text, n int);
         insert into orders select i, (array['plain', 'with space', 'a/b=c%d', 'é', null])[1 + i % 5], i
         from generate_series(1, 1000) i; analyze;",
    );
    let lake =
        Lake::local(database.url()).with(r#"tables."public.orders".partition_by = ["shop"]"#);
    lake.run().exits(0);
    assert_eq!(rows(&lake, "public.orders").rows(), 1000);
    let entry = lake
        .place()
        .json("public/orders/_delta_log/00000000000000000000.json");
    let adds: Vec<_> = entry.iter().filter_map(|line| line.get("add")).collect();
    assert!(adds.len() >= 5, "{adds:#?}");
    assert!(adds.iter().all(|add| {
        add["partitionValues"]
            .as_object()
            .is_some_and(|values| values.len() == 1)
    }));
    lake.run().exits(0);
    assert_eq!(rows(&lake, "public.orders").rows(), 1000);
}

#[test]
fn by_the_month_of_a_timestamp() {
    let database = Database::create();
    shop::orders(&database, 50_000);
    let lake = Lake::s3(database.url())
        .with(r#"tables."public.orders".partition_by = ["month(created_at)"]"#);
    lake.run().exits(0);
    let months = database.sql(
        "select count(distinct date_trunc('month', created_at at time zone 'UTC')) from orders",
    );
    let data = lake.place().list("public/orders/");
    let mut folders: Vec<_> = data
        .iter()
        .filter(|path| path.ends_with(".parquet"))
        .filter_map(|path| path.rsplit_once('/').map(|(folder, _)| folder))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    assert_eq!(folders.len().to_string(), months, "{folders:?}");
    assert_eq!(
        Check::of(&lake, "public.orders").derived(1).agree().rows(),
        50_000
    );
}
