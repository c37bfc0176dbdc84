//! Tables to load: the bench table in any size, for PostgreSQL and SQLite.

use std::path::Path;

use super::postgres::Database;

/// Creates `public.orders` with `rows` rows of fourteen columns of mixed types,
/// the same rows each time.
pub(crate) fn orders(database: &Database, rows: u64) {
    let script = include_str!("../../benches/bench-table.sql");
    database.sql(&script.replace(":rows", &rows.to_string()));
}

/// A SQLite database with `orders`: a key, text, numbers, a blob, NULLs.
pub(crate) fn sqlite_orders(path: &Path, rows: u64) {
    let database = rusqlite::Connection::open(path).expect("a SQLite database");
    database
        .execute_batch(&format!(
            "pragma journal_mode = wal;
             create table orders (
               id integer primary key, status text, note text, amount real, qty integer, body blob
             );
             with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
             insert into orders
             select i, case i % 3 when 0 then 'new' when 1 then 'paid' else 'sent' end,
               case when i % 7 = 0 then null else 'note ' || i end,
               i * 0.25, i % 10, case when i % 5 = 0 then null else cast('b' || i as blob) end
             from n where {rows} > 0;"
        ))
        .expect("orders in SQLite");
}
