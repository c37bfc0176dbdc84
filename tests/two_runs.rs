//! Two runs at once on one dataset: one wins, the other says that it was
//! overtaken (exit 11), and the lake is whole (C3).

use crate::kit;

use kit::lake::Lake;
use kit::oracle::rows;
use kit::place::Place;
use kit::postgres::Database;
use kit::shop;

const TABLE: &str = "public/orders";

/// Starts both at once and returns how many won; fails on any other end.
fn race(first: &Lake, second: &Lake) -> usize {
    let (one, other) = (first.start(), second.start());
    let outcomes = [one.wait().cleanly(), other.wait().cleanly()];
    let won = outcomes
        .iter()
        .filter(|outcome| outcome.code == Some(0))
        .count();
    for outcome in outcomes {
        assert!(
            matches!(outcome.code, Some(0 | 11)),
            "neither done nor overtaken; {outcome}"
        );
        if outcome.code == Some(11) {
            outcome.says(&["orders"]);
        }
    }
    won
}

fn races(place: &Place, database: &Database, count: u64) {
    // Each run publishes, whether anything has changed or not; merges that race
    // are in `merge_races`.
    let lake = || Lake::at(database.url(), place.clone()).with(r#"mode = "full""#);
    let (one, other) = (lake(), lake());
    let mut versions = 0;
    let mut overtaken = 0;
    for round in 0..8 {
        let won = race(&one, &other);
        assert!(won >= 1, "round {round}: nobody won");
        overtaken += 2 - won;
        versions += won;
        // Every success is a version of its own, every version a success.
        assert_eq!(place.versions(TABLE).len(), versions, "round {round}");
        assert_eq!(rows(&one, "public.orders").rows(), count);
    }
    assert!(
        overtaken > 0,
        "no run ever met the other: the test proves nothing"
    );
}

#[test]
fn on_local_disk() {
    let database = Database::create();
    shop::orders(&database, 100_000);
    let folder = kit::scratch();
    races(
        &Place::Folder(folder.path().join("lake")),
        &database,
        100_000,
    );
}

#[test]
fn on_s3() {
    let database = Database::create();
    shop::orders(&database, 100_000);
    let place = Place::s3();
    races(&place, &database, 100_000);
    place.server().assert_no_deletes();
}
