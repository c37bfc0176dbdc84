//! `pgbench` runs while syncs run back to back: what the lake shows is always
//! one moment of the bank, and at the end ROWS= on all four tables, of which
//! `pgbench_history` has no key.
//!
//! `HIGHWATER_SYNCS` (4) and `HIGHWATER_SCALE` (1) set the size.

use crate::kit;

use std::time::Duration;

use kit::lake::{Lake, Running};
use kit::oracle::{query, rows};
use kit::postgres::Database;
use kit::size;

const TABLES: [&str; 4] = [
    "public.pgbench_accounts",
    "public.pgbench_branches",
    "public.pgbench_history",
    "public.pgbench_tellers",
];

/// What is in the accounts, at the tellers, in the branches and in the history
/// is the same money, in every state that ever was.
#[track_caller]
fn is_balanced(lake: &Lake) {
    let tables = TABLES.map(|table| (table.rsplit('_').next().unwrap(), table, None));
    let sums = query(
        lake,
        &tables,
        "select (select coalesce(sum(abalance), 0)::bigint from accounts), (select coalesce(sum(bbalance), 0)::bigint from branches),
         (select coalesce(sum(delta), 0)::bigint from history), (select coalesce(sum(tbalance), 0)::bigint from tellers)",
    );
    let [accounts, others @ ..] = sums[0].as_slice() else {
        panic!("{sums:?}")
    };
    assert!(others.iter().all(|sum| sum == accounts), "{sums:?}");
}

fn while_pgbench_runs(database: &Database, lake: &Lake) {
    let (scale, syncs) = (size("HIGHWATER_SCALE", 1), size("HIGHWATER_SYNCS", 4));
    let mut init = database.tool("pgbench");
    init.args(["-i", "-q", "-s", &scale.to_string()]);
    Running::spawn(&mut init).wait().exits(0);
    let mut bench = database.tool("pgbench");
    let mut bench = Running::spawn(bench.args(["-n", "-c", "4", "-T", "3600"]));
    for _ in 0..syncs {
        lake.run().exits(0);
        is_balanced(lake);
    }
    assert!(bench.is_running(), "{}", bench.wait());
    bench.kill();
    wait_until_idle(database);
    lake.run().exits(0);
    is_balanced(lake);
    for table in TABLES {
        println!("{table}: {} rows", rows(lake, table).rows());
    }
}

/// Until the server has noticed that `pgbench` is gone.
fn wait_until_idle(database: &Database) {
    let sessions = "select count(*) from pg_stat_activity where application_name = 'pgbench'";
    while database.sql(sessions) != "0" {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn by_the_method_that_is_chosen() {
    let database = Database::create();
    let lake = Lake::local(database.url()).with(r#"files.target = "256KiB""#);
    while_pgbench_runs(&database, &lake);
}

#[test]
fn by_comparison_on_s3() {
    let database = Database::create();
    let lake = Lake::s3(database.url()).with(r#"method = "diff""#);
    while_pgbench_runs(&database, &lake);
    lake.place().server().assert_no_deletes();
}
