//! Deletes that nothing in the rows themselves tells of (T2): rows are counted,
//! and what cannot be represented must not make up for what is gone.

use crate::kit;

use kit::lake::Lake;
use kit::oracle::Check;
use kit::postgres::Database;

/// As many rows are deleted as were set aside: the counts of both sides agree,
/// the rows do not.
#[test]
fn as_many_as_were_set_aside() {
    let database = Database::create();
    database.sql(
        "create table events (id int primary key, at timestamptz);
         insert into events select i, case when i <= 3 then 'infinity'::timestamptz else now() end from generate_series(1, 100) i;
         analyze",
    );
    let lake = Lake::local(database.url()).with(r#"method = "xid""#);
    lake.run().exits(3);
    let agree = || {
        Check::of(&lake, "public.events")
            .filter("isfinite(at)")
            .agree();
    };
    agree();
    database.sql("delete from events where id in (50, 51, 52)");
    let outcome = lake.run().cleanly();
    assert!(matches!(outcome.code, Some(0 | 3)), "{outcome}");
    agree();
}

/// A row that becomes one that cannot be represented leaves the lake.
#[test]
fn a_row_that_turns_bad() {
    for method in ["xid", "diff"] {
        let database = Database::create();
        database.sql(
            "create table events (id int primary key, at timestamptz);
             insert into events select i, now() from generate_series(1, 100) i; analyze",
        );
        let lake = Lake::local(database.url()).with(format!(r#"method = "{method}""#));
        lake.run().exits(0);
        database.sql("update events set at = 'infinity' where id = 7");
        lake.run().exits(3);
        let agree = || {
            Check::of(&lake, "public.events")
                .filter("isfinite(at)")
                .agree();
        };
        agree();
        database.sql("update events set at = now() where id = 7; delete from events where id = 8");
        lake.run().cleanly();
        agree();
    }
}
