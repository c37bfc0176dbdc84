//! kill -9 at random instants during merges, with changes in between: the log
//! has no gap, every version that was ever committed is a state that the source
//! was in, and at the end the rows are right.
//!
//! `HIGHWATER_KILLS` (10) and `HIGHWATER_MERGE_ROWS` (20,000) set the size,
//! `HIGHWATER_SEED` the instants.

use crate::kit;

use std::time::Duration;

use kit::lake::Lake;
use kit::oracle::{query, rows};
use kit::postgres::Database;
use kit::{Random, size};
use serde_json::Value;

const TABLE: &str = "public.items";

/// What tells one state of the table from another.
const STATE: &str = "select count(*), sum(id)::text, sum(v)::text, sum(id % 1009 * v)::text";

struct Scene {
    database: Database,
    lake: Lake,
    random: Random,
    /// The states that the source was in, in order.
    states: Vec<String>,
    change: u64,
}

impl Scene {
    fn new(lake: impl Fn(String) -> Lake) -> Self {
        let database = Database::create();
        let count = size("HIGHWATER_MERGE_ROWS", 20_000);
        database.sql(&format!(
            "create table items (id bigint primary key, v bigint not null, note text);
             insert into items select i, 0, md5(i::text) || md5((-i)::text) from generate_series(1, {count}) i;
             analyze"
        ));
        let lake = lake(database.url()).with(r#"files.target = "64KiB""#);
        let mut scene = Self {
            database,
            lake,
            random: Random::seeded(),
            states: Vec::new(),
            change: 0,
        };
        scene.remember();
        scene
    }

    fn remember(&mut self) {
        self.states
            .push(self.database.sql(&format!("{STATE} from items")));
    }

    /// Updates all over the table, deletes in a row, inserts at the end.
    fn change(&mut self) {
        self.change += 1;
        let (change, from) = (self.change, self.random.below(15_000));
        self.database.sql(&format!(
            "begin;
             update items set v = {change} where id % 97 = {change} % 97;
             delete from items where id between {from} and {from} + 20;
             insert into items select {change} * 100000 + i, {change}, 'new' from generate_series(1, 50) i;
             commit"
        ));
        self.remember();
    }

    fn run_and_kill(&mut self, whole: Duration) -> bool {
        let span = u64::try_from(whole.as_micros()).unwrap();
        let instant = Duration::from_micros(self.random.below(span));
        let mut run = self.lake.start();
        std::thread::sleep(instant);
        if run.is_running() {
            let outcome = run.kill().cleanly();
            // It may have ended by itself in the instant between.
            assert!(matches!(outcome.code, None | Some(0)), "{outcome}");
            outcome.code.is_none()
        } else {
            run.wait().exits(0);
            false
        }
    }

    fn kill_again_and_again(&mut self) {
        self.lake.run().exits(0);
        self.change();
        let whole = self.lake.run().exits(0).wall;
        let kills = size("HIGHWATER_KILLS", 10);
        let mut killed = 0;
        for _ in 0..kills * 4 {
            self.change();
            killed += u64::from(self.run_and_kill(whole));
            if killed == kills {
                return;
            }
        }
        panic!("only {killed} of {kills} runs lived long enough to be killed");
    }

    /// Every version is a state of the source, and a later one a later state.
    fn check_versions(&self) {
        let versions = self.lake.place().versions("public/items");
        let gapless: Vec<u64> = (0..).take(versions.len()).collect();
        assert_eq!(versions, gapless, "the log has a gap");
        let names: Vec<String> = versions.iter().map(|v| format!("v{v}")).collect();
        let tables: Vec<_> = names
            .iter()
            .zip(&versions)
            .map(|(name, &version)| (name.as_str(), TABLE, Some(version)))
            .collect();
        let selects: Vec<String> = names
            .iter()
            .map(|name| format!("{STATE}, '{name}' from {name}"))
            .collect();
        let mut seen = 0;
        for row in query(&self.lake, &tables, &selects.join(" union all ")) {
            let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
            let row: Vec<String> = row.iter().map(text).collect();
            let state = row[..4].join("|");
            let at = self.states.iter().rposition(|known| *known == state);
            let at = at.unwrap_or_else(|| panic!("{row:?} never was: {:#?}", self.states));
            assert!(at >= seen, "{row:?} goes back");
            seen = at;
        }
        println!("{} versions, {} states", versions.len(), self.states.len());
    }

    fn finish(&mut self) {
        self.lake.run().exits(0);
        let found = rows(&self.lake, TABLE);
        println!("orphans {}", found.orphans());
        self.check_versions();
        self.lake.verb("verify").wait().exits(0);
    }
}

#[test]
fn killed_merges_on_local_disk() {
    let mut scene = Scene::new(Lake::local);
    scene.kill_again_and_again();
    scene.finish();
}

#[test]
fn killed_merges_on_s3() {
    let mut scene = Scene::new(Lake::s3);
    scene.kill_again_and_again();
    scene.finish();
    scene.lake.place().server().assert_no_deletes();
}

/// Control arm: a version that is no state of the source is noticed.
#[test]
#[should_panic(expected = "never was")]
fn a_state_that_never_was_is_noticed() {
    let mut scene = Scene::new(Lake::local);
    scene.lake.run().exits(0);
    scene.states = vec!["1|1|1|1".to_owned()];
    scene.check_versions();
}
