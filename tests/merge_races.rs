//! A merge that is frozen half-way and thawed after another run has committed:
//! it commits nothing and says that it was overtaken (C3).

use crate::kit;

use std::time::{Duration, Instant};

use kit::lake::{Lake, Running};
use kit::oracle::rows;
use kit::place::Place;
use kit::postgres::Database;
use kit::s3::{Action, Rule, Seen};
use kit::shop;

const TABLE: &str = "public/orders";

struct Scene {
    database: Database,
    place: Place,
}

impl Scene {
    fn new() -> Self {
        let database = Database::create();
        shop::orders(&database, 20_000);
        let scene = Self {
            database,
            place: Place::s3(),
        };
        scene.lake().run().exits(0);
        scene
    }

    fn lake(&self) -> Lake {
        Lake::at(self.database.url(), self.place.clone()).with(r#"files.target = "64KiB""#)
    }

    fn change(&self, note: &str) {
        self.database.sql(&format!(
            "update orders set note = '{note}' where id % 1000 = 1;
             delete from orders where id % 1000 = length('{note}')"
        ));
    }

    /// A merge that was stopped while it wrote its first file.
    fn frozen(&self, lake: &Lake) -> Running {
        let faults = self.place.server().faults();
        let puts = || faults.count(is_file_put);
        let before = puts();
        faults.add(Rule::new("PUT", "*.parquet", Action::Delay(Duration::from_secs(2))).times(1));
        let run = lake.start();
        let until = Instant::now() + Duration::from_secs(60);
        while puts() == before {
            assert!(Instant::now() < until, "no file was ever written");
            std::thread::sleep(Duration::from_millis(2));
        }
        run.signal("STOP");
        run
    }

    fn versions(&self) -> Vec<u64> {
        self.place.versions(TABLE)
    }
}

fn is_file_put(seen: &Seen) -> bool {
    seen.method == "PUT" && seen.path.ends_with(".parquet")
}

#[test]
fn a_frozen_merge_commits_nothing_when_it_thaws() {
    let scene = Scene::new();
    let (one, other) = (scene.lake(), scene.lake());
    scene.change("first");
    let frozen = scene.frozen(&one);
    assert_eq!(scene.versions(), [0]);
    scene.change("meanwhile");
    other.run().exits(0);
    rows(&other, "public.orders");
    frozen.signal("CONT");
    frozen.wait().exits(11).says(&["orders"]);
    assert_eq!(scene.versions(), [0, 1], "the thawed run committed");
    rows(&other, "public.orders");
    scene.change("last");
    one.run().exits(0);
    rows(&one, "public.orders");
    scene.place.server().assert_no_deletes();
}

/// Control arm: being frozen alone stops nothing.
#[test]
fn a_frozen_merge_that_nobody_overtook_commits() {
    let scene = Scene::new();
    let lake = scene.lake();
    scene.change("first");
    let frozen = scene.frozen(&lake);
    frozen.signal("CONT");
    frozen.wait().exits(0);
    assert_eq!(scene.versions(), [0, 1]);
    rows(&lake, "public.orders");
}
