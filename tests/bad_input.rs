//! What users get wrong, and what the world does to them: one clear message
//! that says what to do, the right exit code, no panic and no secret.

use crate::kit;

use std::fs;
use std::process::Command;

use kit::lake::{Lake, Running};
use kit::oracle::{python, rows};
use kit::outcome::CANARY;
use kit::place::Place;
use kit::postgres::{Database, LOCKED};
use kit::s3::{Action, Rule};
use kit::shop;

#[test]
fn urls_that_lead_nowhere() {
    for (source, code, words) in [
        (
            "mongodb://127.0.0.1/db".to_owned(),
            2,
            ["mongodb", "postgres"],
        ),
        ("not a url".to_owned(), 2, ["no URL", "postgres"]),
        (
            "sqlite:/nowhere/at/all.sqlite".to_owned(),
            2,
            ["/nowhere/at/all.sqlite", "sqlite"],
        ),
        (
            format!("postgres://u:{CANARY}@127.0.0.1:1/db"),
            4,
            ["127.0.0.1", "connect"],
        ),
        (
            format!("postgres://u:{CANARY}@no-such-host.invalid/db"),
            4,
            ["no-such-host.invalid", "host"],
        ),
    ] {
        Lake::local(source).run().exits(code).says(&words);
    }
}

#[test]
fn a_refused_login() {
    let database = Database::create();
    database.sql(&format!(
        "drop role if exists {LOCKED}; create role {LOCKED} login password 'right'"
    ));
    let url = database.url_as(&format!("{LOCKED}:{CANARY}"));
    Lake::local(url).run().exits(1).says(&[LOCKED, "password"]);
    let missing = database.url().replace("/test_", "/absent_");
    let outcome = Lake::local(missing)
        .run()
        .cleanly()
        .says(&["absent_", "exist"]);
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome}");
}

#[test]
fn tables_and_columns_that_are_not_there() {
    let database = Database::create();
    shop::orders(&database, 10);
    let lake = Lake::local(database.url()).with(r#"include = ["order"]"#);
    lake.run()
        .exits(2)
        .says(&["\"order\"", "did you mean", "orders"]);
    let lake =
        Lake::local(database.url()).with(r#"tables."public.orders".columns = ["id", "amuont"]"#);
    lake.run().exits(2).says(&["amuont", "amount"]);
    let lake = Lake::local(database.url()).with(r#"tables."public.orders".where = "no_such > 1""#);
    let outcome = lake.run().cleanly().says(&["no_such", "orders"]);
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome}");
}

#[test]
fn a_table_without_permission_does_not_hold_up_the_others() {
    let database = Database::create();
    shop::orders(&database, 100);
    let role = format!("reader_{}", std::process::id());
    database.sql(&format!(
        "create table secrets (id int primary key); create role {role} login;
         grant select on orders to {role};"
    ));
    let mut lake = Lake::local(database.url_as(&role));
    lake.run().exits(1).says(&["secrets", "permission"]);
    lake.set_source(database.url());
    rows(&lake, "public.orders");
    assert!(lake.place().versions("public/secrets").is_empty());
}

#[test]
fn configurations_that_are_wrong() {
    let folder = kit::scratch();
    let path = folder.path().join("config.toml");
    for (text, words) in [
        (
            "source = \"sqlite:x\"\nlake = \"file:y\"\nworkres = 2\n",
            vec!["config.toml:3", "workres", "workers"],
        ),
        (
            "source = \"sqlite:${HIGHWATER_TEST_UNSET}\"\nlake = \"file:y\"\n",
            vec!["HIGHWATER_TEST_UNSET", "config.toml:1"],
        ),
        ("source = \"sqlite:x\"\n", vec!["lake", "config.toml"]),
        ("source = \"sqlite:x\nlake = 3", vec!["config.toml"]),
        (
            "source = \"sqlite:x\"\nlake = \"file:y\"\nmemory = \"1 potato\"\n",
            vec!["config.toml:3", "memory"],
        ),
        (
            "source = \"sqlite:x\"\nlake = \"file:y\"\nmemory = \"1MiB\"\n",
            vec!["config.toml:3", "memory"],
        ),
        (
            "source = \"sqlite:x\"\nlake = \"file:y\"\nmode = \"ful\"\n",
            vec!["config.toml:3", "mode", "full"],
        ),
    ] {
        fs::write(&path, text).unwrap();
        Running::start(&["run", &path.to_string_lossy()])
            .wait()
            .exits(2)
            .says(&words);
    }
    Running::start(&["run", "/no/such/config.toml"])
        .wait()
        .exits(2)
        .says(&["/no/such/config.toml"]);
    Running::start(&["ruin", "x"])
        .wait()
        .exits(2)
        .says(&["run"]);
}

#[test]
fn a_bucket_that_cannot_be_reached_or_is_not_there() {
    let database = Database::create();
    shop::orders(&database, 10);
    let away = Lake::local(database.url())
        .with("store.endpoint = \"http://127.0.0.1:1\"")
        .with("store.allow_http = \"true\"")
        .with("store.region = \"us-east-1\"")
        .with("store.access_key_id = \"x\"")
        .with(format!("store.secret_access_key = {CANARY:?}"));
    let config = fs::read_to_string(away.config()).unwrap();
    let local = config
        .lines()
        .find(|line| line.starts_with("lake"))
        .unwrap()
        .to_owned();
    let config = config.replace(&local, "lake = \"s3://lake/x\"");
    let path = away.folder().join("away.toml");
    fs::write(&path, &config).unwrap();
    let run = Running::start(&["run", &path.to_string_lossy()]).wait();
    run.exits(4).says(&["127.0.0.1:1"]);

    let place = Place::s3();
    let other = config
        .replace("http://127.0.0.1:1", &place.server().endpoint())
        .replace("s3://lake/x", "s3://no-such-bucket/x");
    fs::write(&path, other).unwrap();
    let outcome = Running::start(&["run", &path.to_string_lossy()])
        .wait()
        .cleanly();
    assert!(
        matches!(outcome.code, Some(1 | 2)),
        "the keys are refused; {outcome}"
    );
}

#[test]
fn an_existing_folder_that_is_not_our_table() {
    let database = Database::create();
    shop::orders(&database, 10);
    let lake = Lake::local(database.url());
    lake.place()
        .write("public/orders/holiday.txt", b"not a table");
    lake.run().exits(1).says(&["orders", "not"]);
    assert_eq!(
        lake.place().read("public/orders/holiday.txt").unwrap(),
        b"not a table"
    );
    assert!(lake.place().versions("public/orders").is_empty());
}

/// Lets somebody else's Python do something to the table's folder.
fn by_another(lake: &Lake, script: &str) {
    let table = format!("{}/public/orders", lake.place().url());
    let output = Command::new(python())
        .args(["-c", script, table.trim_start_matches("file:")])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const WRITE_A_TABLE: &str = "
import sys, pyarrow as pa, deltalake
deltalake.write_deltalake(sys.argv[1], pa.table({'id': pa.array([1], pa.int64())}))";

/// Commits as another program that knows the table's features would. (The Python
/// writer refuses such tables.)
const REMOVE_ALL_FILES: &str = "
import sys, json, deltalake
table = sys.argv[1]
removes = [{'remove': {'path': path, 'deletionTimestamp': 0, 'dataChange': True}}
           for path in deltalake.DeltaTable(table).get_add_actions().column('path').to_pylist()]
with open(f'{table}/_delta_log/{1:020}.json', 'x') as log:
    for action in [{'commitInfo': {'operation': 'DELETE'}}, *removes]:
        log.write(json.dumps(action) + '\\n')";

#[test]
fn a_delta_table_that_somebody_else_made() {
    let database = Database::create();
    shop::orders(&database, 10);
    let lake = Lake::local(database.url());
    by_another(&lake, WRITE_A_TABLE);
    lake.run().exits(1).says(&["orders", "another"]);
    assert_eq!(lake.place().versions("public/orders"), [0]);
}

#[test]
fn a_delta_table_that_somebody_else_changed_meanwhile() {
    let database = Database::create();
    shop::orders(&database, 10);
    let lake = Lake::local(database.url());
    lake.run().exits(0);
    by_another(&lake, REMOVE_ALL_FILES);
    // The next run replaces the table whole, whatever the other did.
    lake.run().exits(0);
    drop(rows(&lake, "public.orders"));
    assert_eq!(lake.place().versions("public/orders"), [0, 1, 2]);
}

#[test]
fn a_full_disk() {
    let database = Database::create();
    shop::orders(&database, 200_000);
    let disk = kit::scratch();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(disk.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("no small disk can be mounted here: not tested");
        return;
    }
    let lake = Lake::at(database.url(), Place::Folder(disk.path().join("lake")));
    let outcome = lake.run();
    let left = lake.place().versions("public/orders");
    assert!(
        Command::new("umount")
            .arg(disk.path())
            .status()
            .unwrap()
            .success()
    );
    let outcome = outcome.cleanly().says(&["space"]);
    assert!(matches!(outcome.code, Some(1 | 4)), "{outcome}");
    assert!(left.is_empty(), "nothing may be published");
}

#[test]
fn the_source_dies_in_the_middle() {
    let database = Database::create();
    shop::orders(&database, 300_000);
    let lake = Lake::local(database.url()).with(r#"epoch.bytes = "4MiB""#);
    let run = lake.start();
    kit::load_log::wait_for_splits(lake.place(), "public/orders", 1);
    database.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()");
    run.wait().exits(4).says(&["terminat"]);
    lake.run().exits(0);
    rows(&lake, "public.orders");
}

#[test]
fn a_store_that_refuses_the_keys() {
    let database = Database::create();
    shop::orders(&database, 10);
    let lake = Lake::s3(database.url());
    let config = fs::read_to_string(lake.config()).unwrap();
    let path = lake.folder().join("wrong-key.toml");
    fs::write(&path, config.replace(kit::s3::SECRET_KEY, CANARY)).unwrap();
    let outcome = Running::start(&["run", &path.to_string_lossy()])
        .wait()
        .cleanly();
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome}");
    lake.place()
        .server()
        .faults()
        .add(Rule::new("*", "*", Action::Fail503));
    lake.run().exits(4);
}
