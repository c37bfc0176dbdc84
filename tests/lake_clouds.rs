//! Lakes in Azure and in Google: what is committed there is committed once, and
//! others read it.

use crate::kit;

use std::path::{Path, PathBuf};
use std::process::Command;

use kit::clouds::{BOTH, Cloud, Whose};
use kit::lake::{Lake, Running};
use kit::objects::{BUCKET, Side, sync};
use kit::oracle::{python, rows};
use kit::outcome::Outcome;
use kit::place::Place;
use serde_json::{Value, json};

/// The shop, and a lake of it in a bucket.
struct CloudLake {
    home: tempfile::TempDir,
    whose: Whose,
    prefix: &'static str,
}

impl CloudLake {
    fn new(whose: Whose, prefix: &'static str) -> Self {
        let home = kit::scratch();
        std::fs::copy(
            kit::root().join("data/shop.sqlite"),
            home.path().join("shop.sqlite"),
        )
        .unwrap();
        Self {
            home,
            whose,
            prefix,
        }
    }

    fn cloud(&self) -> &'static Cloud {
        Cloud::of(self.whose)
    }

    fn source(&self) -> PathBuf {
        self.home.path().join("shop.sqlite")
    }

    fn url(&self) -> String {
        format!("{}://{BUCKET}/{}", self.cloud().scheme(), self.prefix)
    }

    fn start(&self, more: &[&str]) -> Running {
        let config = self.home.path().join(format!("{}.toml", more.len()));
        let mut text = format!(
            "source = \"sqlite:{}\"\nlake = {:?}\nworkers = 1\n",
            self.source().display(),
            self.url()
        );
        for (name, value) in self.cloud().options() {
            text += &format!("store.{} = {value:?}\n", name.to_lowercase());
        }
        std::fs::write(&config, text + &more.join("\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_table-backup"));
        command.arg("run").arg(config);
        command.args(["--log", "normal", "--progress", "never", "--json"]);
        command.envs(self.cloud().environment());
        Running::spawn(&mut command)
    }

    fn run(&self) -> Outcome {
        self.start(&[]).wait()
    }

    /// The versions of a table, by what is in its log.
    fn versions(&self, table: &str) -> usize {
        let log = format!("{}/{table}/_delta_log/", self.prefix);
        let keys = self.cloud().seen(&log).into_keys();
        keys.filter(|key| key.ends_with(".json")).count()
    }

    /// Rows of a table as `deltalake` reads it where it lies.
    fn read(&self, table: &str) -> Value {
        let program = "import sys, json, deltalake\n\
            url, options = sys.argv[1], json.loads(sys.argv[2])\n\
            table = deltalake.DeltaTable(url, storage_options=options)\n\
            rows = table.to_pyarrow_table().num_rows\n\
            print(json.dumps({'rows': rows, 'version': table.version()}))";
        let output = Command::new(python())
            .args(["-c", program, &format!("{}/{table}", self.url())])
            .arg(self.cloud().reader_options().to_string())
            .envs(self.cloud().environment())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{table}: {said}"))
    }

    /// Every table equals the source, in a copy that `object-sync` makes.
    fn assert_equal(&self, to: &Path) {
        let from = Side::Cloud(self.cloud(), self.prefix);
        sync(&from, &Side::Folder(to.to_owned()), &[]).exits(0);
        let source = format!("sqlite:{}", self.source().display());
        let copy = Lake::at(source, Place::Folder(to.to_owned()));
        for table in ["customers", "orders", "order_items", "reviews"] {
            assert!(rows(&copy, table).rows() > 0, "{table}");
        }
    }
}

fn change(file: &Path) {
    let shop = rusqlite::Connection::open(file).unwrap();
    let changed = shop.execute_batch(
        "update orders set status = 'returned', note = 'kaputt' where id % 50 = 7;
         insert into reviews select * from reviews where 0;
         delete from order_items where order_id = (select min(order_id) from order_items);
         insert into customers (id, email, name, country, newsletter, joined_on)
            values (1000001, 'new@example.org', 'New', 'CH', 1, '2026-01-02');",
    );
    changed.unwrap();
}

fn a_lake_follows_its_source(whose: Whose) {
    let lake = CloudLake::new(whose, "lake");
    lake.run().exits(0);
    let first = lake.read("orders");
    assert_eq!(first["version"], json!(lake.versions("orders") - 1));
    lake.assert_equal(&lake.home.path().join("one"));
    change(&lake.source());
    lake.run().exits(0);
    let second = lake.read("orders");
    assert!(second["version"].as_u64() > first["version"].as_u64());
    assert_eq!(second["rows"], first["rows"]);
    lake.assert_equal(&lake.home.path().join("two"));
    // Nothing has changed: nothing is written but the record of the run.
    let puts = lake.cloud().count("PUT", "lake/orders/");
    lake.run().exits(0);
    assert_eq!(lake.cloud().count("PUT", "lake/orders/"), puts);
}

#[test]
fn a_lake_in_azure_follows_its_source() {
    a_lake_follows_its_source(Whose::Azure);
}

#[test]
fn a_lake_in_google_follows_its_source() {
    a_lake_follows_its_source(Whose::Google);
}

#[test]
fn two_runs_at_once_are_told_apart() {
    for whose in BOTH {
        let lake = CloudLake::new(whose, "two");
        let mut versions = 0;
        let mut overtaken = 0;
        for round in 0..3 {
            let full = "mode = \"full\"";
            let (one, other) = (lake.start(&[full]), lake.start(&[full, ""]));
            let outcomes = [one.wait().cleanly(), other.wait().cleanly()];
            let won = outcomes.iter().filter(|run| run.code == Some(0)).count();
            for outcome in &outcomes {
                assert!(matches!(outcome.code, Some(0 | 11)), "{outcome}");
            }
            // Every table was published by one or by both, each time as a version; each
            // of them may have been overtaken in another table.
            let now = lake.versions("orders");
            assert!(
                now > versions && now <= versions + 2,
                "round {round}: {versions} to {now}"
            );
            versions = now;
            overtaken += 2 - won;
        }
        assert!(overtaken > 0, "{whose:?}: no run ever met the other");
        lake.assert_equal(&lake.home.path().join("copy"));
    }
}

#[test]
fn a_commit_whose_answer_was_lost_is_known_for_ones_own() {
    for whose in BOTH {
        let lake = CloudLake::new(whose, "lost");
        let log = "lost/orders/_delta_log";
        // Google's client writes `/` in its own way.
        let log = match whose {
            Whose::Azure => log.to_owned(),
            Whose::Google => log.replace('/', "%2F"),
        };
        lake.cloud().fail("PUT", &log, json!("lose"), 1);
        lake.cloud().fail("PUT", &log, json!(503), 1);
        lake.run().exits(0);
        assert_eq!(
            lake.read("orders")["version"],
            json!(lake.versions("orders") - 1)
        );
        lake.assert_equal(&lake.home.path().join("copy"));
    }
}

#[test]
fn a_lake_that_cannot_be_is_said_at_once() {
    for whose in BOTH {
        let lake = CloudLake::new(whose, "x");
        let config = lake.home.path().join("wrong.toml");
        let mut text = format!(
            "source = \"sqlite:{}\"\nlake = \"{}://no-such-place/x\"\n",
            lake.source().display(),
            lake.cloud().scheme()
        );
        for (name, value) in lake.cloud().options() {
            text += &format!("store.{} = {value:?}\n", name.to_lowercase());
        }
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_table-backup"));
        command.arg("run").arg(config);
        command.envs(lake.cloud().environment());
        Running::spawn(&mut command)
            .wait()
            .exits(2)
            .says(&["does not exist"]);
    }
}
