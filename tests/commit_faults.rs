//! The answer to every commit is lost, or is an error although the commit was
//! applied, or the store is busy: exactly one version per run, and nothing is
//! ever deleted (C1, C2, C4).

use crate::kit;

use std::time::Duration;

use kit::lake::Lake;
use kit::oracle::rows;
use kit::postgres::Database;
use kit::s3::{Action, Rule, Seen};
use kit::shop;

const TABLE: &str = "public/orders";

/// A lake in S3 with some epochs to record, and the database it comes from.
fn lake() -> (Database, Lake) {
    let database = Database::create();
    shop::orders(&database, 50_000);
    let lake = Lake::s3(database.url()).with(r#"epoch.bytes = "2MiB""#);
    (database, lake)
}

/// Runs twice under the rules, a load and a merge: each run makes one version, and
/// the rows are right.
fn survives(rules: &[Rule]) {
    let (database, lake) = lake();
    let server = lake.place().server();
    rules
        .iter()
        .for_each(|rule| server.faults().add(rule.clone()));
    for version in 0..2_u64 {
        lake.run().exits(0);
        database.sql("update orders set note = 'changed' where id % 1000 = 1");
        let made: Vec<u64> = (0..=version).collect();
        assert_eq!(lake.place().versions(TABLE), made, "one version per run");
    }
    assert!(
        server.faults().count(|seen| seen.fault.is_some()) > 0,
        "no fault was applied"
    );
    server.faults().clear();
    server.assert_no_deletes();
    lake.run().exits(0);
    assert_eq!(rows(&lake, "public.orders").rows(), 50_000);
}

const DELTA: &str = "*/_delta_log/*.json";
const LOADS: &str = "*/_highwater/loads/*";

#[test]
fn every_answer_to_a_log_put_is_lost() {
    survives(&[
        Rule::new("PUT", DELTA, Action::ApplyThenDrop),
        Rule::new("PUT", LOADS, Action::ApplyThenDrop),
    ]);
}

#[test]
fn every_log_put_is_applied_and_answered_with_500() {
    survives(&[
        Rule::new("PUT", DELTA, Action::Apply500),
        Rule::new("PUT", LOADS, Action::Apply500),
    ]);
}

#[test]
fn conflicts_that_are_none() {
    survives(&[
        Rule::new("PUT", DELTA, Action::Conflict409).times(3),
        Rule::new("PUT", LOADS, Action::Conflict409).times(3),
    ]);
    survives(&[
        Rule::new("PUT", DELTA, Action::Precondition412).times(2),
        Rule::new("PUT", LOADS, Action::Precondition412).times(2),
    ]);
}

#[test]
fn the_store_is_busy() {
    survives(&[
        Rule::new("*", "*", Action::Fail503).times(4),
        Rule::new("*", "*", Action::Fail503).after(40).times(6),
        Rule::new("PUT", "*", Action::Fail500).after(10).times(2),
        Rule::new("GET", "*", Action::Drop).after(5).times(2),
    ]);
}

#[test]
fn answers_are_cut_short_or_late() {
    survives(&[
        Rule::new("GET", "*.json", Action::Truncate).times(3),
        Rule::new("PUT", DELTA, Action::Delay(Duration::from_secs(2))).times(1),
        Rule::new("PUT", "*.parquet", Action::Apply500).times(1),
        Rule::new("PUT", "*.parquet", Action::ApplyThenDrop)
            .after(1)
            .times(1),
    ]);
}

#[test]
fn a_store_that_stays_down_is_worth_retrying() {
    let (_database, lake) = lake();
    let server = lake.place().server();
    server
        .faults()
        .add(Rule::new("PUT", DELTA, Action::Fail503));
    lake.run().exits(4).says(&["503"]);
    assert!(lake.place().versions(TABLE).is_empty());
    server.assert_no_deletes();
    server.faults().clear();
    lake.run().exits(0);
    assert_eq!(lake.place().versions(TABLE), [0]);
    rows(&lake, "public.orders");
}

/// Control arm: with the answer to a commit lost, the plain retrying client
/// takes its own commit for another's (shown at the client itself in
/// `kit_itself`); ours asks the store what is there, and does so only when it
/// must.
#[test]
fn a_commit_that_is_answered_is_not_repeated() {
    let (database, lake) = lake();
    lake.run().exits(0);
    let faults = lake.place().server().faults();
    assert_eq!(
        faults.count(|seen| seen.is_log_put() && seen.path.contains("/orders/")),
        1
    );
    faults.add(Rule::new("PUT", DELTA, Action::ApplyThenDrop).times(1));
    database.sql("update orders set note = 'changed' where id = 1");
    lake.run().exits(0);
    let second = |seen: &Seen| seen.is_log_put() && seen.path.ends_with("1.json");
    assert_eq!(
        faults.count(second),
        1,
        "the entry was there: it must be read, not put again"
    );
}
