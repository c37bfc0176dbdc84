//! `memory = "256MiB"` is a promise about the whole process: kept under a real
//! cgroup where one may be made, else held against the reported peak.
//!
//! `HIGHWATER_MEMORY_ROWS` (1,000,000; 5,000,000 in `scripts/test large`).

use crate::kit;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use kit::lake::{Lake, Running};
use kit::oracle::rows;
use kit::postgres::Database;
use kit::{shop, size};

const LIMIT: u64 = 256 << 20;

/// A memory cgroup of our own, version 1 or 2; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("highwater-test-{}-{number}", std::process::id());
        let limits = [
            ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.swappiness",
            ),
        ];
        limits.into_iter().find_map(|(home, limit, swap)| {
            let group = Self(PathBuf::from(home).join(&name));
            fs::create_dir(&group.0).ok()?;
            // A swap setting that is not there does not matter; the limit does.
            let _ = fs::write(group.0.join(swap), "0");
            group.0.join(limit).exists().then_some(())?;
            fs::write(group.0.join(limit), LIMIT.to_string()).ok()?;
            Some(group)
        })
    }

    fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn load_within_the_limit(lake: &Lake, count: u64) {
    let config = lake.config();
    let run = format!(
        "{} run {} --log normal --progress never --json",
        env!("CARGO_BIN_EXE_table-backup"),
        config.display()
    );
    let cgroup = Cgroup::make();
    let enter = match &cgroup {
        Some(cgroup) => format!("echo $$ > {} && exec {run}", cgroup.processes().display()),
        None => format!("exec {run}"),
    };
    let outcome = Running::spawn(Command::new("sh").args(["-c", &enter]))
        .wait()
        .exits(0);
    let peak = outcome.number("peak_rss_bytes");
    println!(
        "peak {} MiB of {} MiB for {count} rows in {:?}, {}",
        peak >> 20,
        LIMIT >> 20,
        outcome.wall,
        if cgroup.is_some() {
            "under a cgroup"
        } else {
            "no cgroup could be made here"
        }
    );
    assert!(
        peak <= LIMIT,
        "the peak of {peak} bytes breaks the promise of {LIMIT}"
    );
    assert_eq!(rows(lake, "public.orders").rows(), count);
}

#[test]
fn a_load_stays_within_256_mebibytes() {
    let count = size("HIGHWATER_MEMORY_ROWS", 1_000_000);
    let database = Database::create();
    shop::orders(&database, count);
    let lake = Lake::local(database.url()).with(r#"memory = "256MiB""#);
    load_within_the_limit(&lake, count);
    let lake = Lake::s3(database.url()).with(r#"memory = "256MiB""#);
    load_within_the_limit(&lake, count);
}

/// Rows of a megabyte each, many partitions at once: what usually breaks it.
#[test]
fn wide_rows_and_many_partitions_stay_within_it_too() {
    let database = Database::create();
    database.sql(
        "create table orders (id int primary key, part int, body text);
         insert into orders select i, i % 20, repeat(md5(i::text), 32000) from generate_series(1, 300) i;
         analyze;",
    );
    let lake = Lake::local(database.url())
        .with(r#"memory = "256MiB""#)
        .with(r#"tables."public.orders".partition_by = ["part"]"#);
    load_within_the_limit(&lake, 300);
}
