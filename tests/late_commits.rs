//! Rows that commit late are not lost (T2, T3, T4): writers hold transactions
//! open, undo parts of them, prepare them, and stamp rows with the time at which
//! they *began*, while syncs run back to back.
//!
//! `HIGHWATER_SECONDS` (8) is how long writers begin transactions,
//! `HIGHWATER_HOLD_MS` (1000) how long one is held at most.

use crate::kit;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kit::lake::Lake;
use kit::oracle::{Check, Rows, query, rows};
use kit::postgres::Database;
use kit::session::Session;
use kit::{Random, size};

const WRITERS: u64 = 8;
const TABLE: &str = "public.items";

/// Each writer has a thousand keys of its own to begin with, and a pair of rows
/// that is equal in every state that ever was.
fn items(database: &Database) {
    database.sql(&format!(
        "create table items (
           id bigint primary key, writer int, v int not null, note text,
           updated_at timestamptz not null default now());
         create index on items (updated_at);
         create function stamp() returns trigger language plpgsql as
           $$ begin new.updated_at := now(); return new; end $$;
         create trigger stamp before insert or update on items for each row execute function stamp();
         insert into items select w * 1000000 + i, w, 0, repeat('x', (i % 50)::int)
           from generate_series(1, {WRITERS}) w, generate_series(1, 500) i;
         insert into items select w * 1000000 + i, w, 0, 'pair' from generate_series(1, {WRITERS}) w, generate_series(900001, 900002) i;
         analyze"
    ));
}

/// One writer and the keys that are its own: writers never wait for each other.
struct Writer<'a> {
    session: Session,
    random: Random,
    number: u64,
    /// The next key that was never used.
    next: u64,
    round: u64,
    hold: u64,
    deletes: bool,
    done: &'a AtomicBool,
}

impl Writer<'_> {
    fn work(&mut self) {
        while !self.done.load(Ordering::Relaxed) {
            self.round += 1;
            self.transaction();
        }
    }

    fn transaction(&mut self) {
        let (round, number) = (self.round, self.number);
        let [first, second] = [900_001, 900_002].map(|id| number * 1_000_000 + id);
        self.session.run("begin");
        self.session
            .run(&format!("update items set v = {round} where id = {first}"));
        for _ in 0..=self.random.below(3) {
            self.step();
            self.pause();
        }
        self.session
            .run(&format!("update items set v = {round} where id = {second}"));
        self.finish();
    }

    /// A change, in a subtransaction or not.
    fn step(&mut self) {
        let change = self.change();
        let statements = match self.random.below(4) {
            0 => format!("savepoint s; {change}; release s"),
            1 => format!("savepoint s; {change}; rollback to s; {}", self.change()),
            2 => format!("savepoint s; savepoint t; {change}; release t; release s"),
            _ => change,
        };
        self.session.run(&statements);
    }

    fn change(&mut self) -> String {
        let home = self.number * 1_000_000;
        let some = home + 1 + self.random.below(500 + self.next);
        let new = home + 1000 + self.next;
        let kinds = if self.deletes { 6 } else { 4 };
        match self.random.below(kinds) {
            0 | 1 => {
                self.next += 2;
                format!(
                    "insert into items (id, writer, v) values ({new}, {n}, 1), ({}, {n}, 2)",
                    new + 1,
                    n = self.number
                )
            }
            2 | 3 => {
                format!(
                    "update items set v = v + 1 where id between {some} and {some} + 5 and id < {home} + 900000"
                )
            }
            4 => format!("delete from items where id = {some}"),
            _ => {
                self.next += 1;
                format!("update items set id = {new} where id = {some}")
            }
        }
    }

    fn finish(&mut self) {
        let name = format!("w{}_{}", self.number, self.round);
        match self.random.below(8) {
            0 => self.session.run("rollback"),
            1 | 2 => {
                self.session.run(&format!("prepare transaction '{name}'"));
                self.pause();
                let end = ["commit", "rollback"][usize::try_from(self.random.below(2)).unwrap()];
                self.session.run(&format!("{end} prepared '{name}'"));
            }
            _ => self.session.run("commit"),
        }
    }

    fn pause(&mut self) {
        // Most are short, so that long ones are overtaken by many.
        let most = if self.random.below(3) == 0 {
            self.hold
        } else {
            self.hold / 20
        };
        std::thread::sleep(Duration::from_millis(self.random.below(most + 1)));
    }
}

fn mirror(database: &Database, method: &str) -> Lake {
    Lake::local(database.url())
        .with(r#"files.target = "64KiB""#)
        .with(format!(r#"method = "{method}""#))
        .with(r#"tables."public.items".cursor = "updated_at""#)
}

/// The control arm: a cursor without the in-flight bound.
fn naive(database: &Database) -> Lake {
    Lake::local(database.url())
        .with(r#"mode = "append""#)
        .with(r#"tables."public.items".cursor = "updated_at""#)
        .with(r#"tables."public.items".at_risk = true"#)
}

/// A transaction is seen as a whole or not at all, also by those who read the
/// lake while its writers go on.
#[track_caller]
fn is_a_state_that_was(lake: &Lake) {
    let halves = query(
        lake,
        &[("items", TABLE, None)],
        "select count(*) from (select writer from items where id % 1000000 > 900000
         group by writer having count(*) <> 2 or min(v) <> max(v))",
    );
    assert_eq!(halves[0][0], 0, "halves of transactions are in the lake");
}

/// Syncs `lakes` back to back while writers work; then once more when they have
/// stopped. Says how often each was synced meanwhile.
fn sync_while_writing(database: &Database, lakes: &[&Lake], deletes: bool) -> u64 {
    let done = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_secs(size("HIGHWATER_SECONDS", 8));
    let mut rounds = 0;
    std::thread::scope(|scope| {
        for number in 1..=WRITERS {
            let mut writer = Writer {
                session: Session::open(database),
                random: Random::seeded_for(number),
                number,
                next: 0,
                round: 0,
                hold: size("HIGHWATER_HOLD_MS", 1000),
                deletes,
                done: &done,
            };
            scope.spawn(move || writer.work());
        }
        let _stop = Stop(&done);
        while Instant::now() < until {
            for lake in lakes {
                lake.run().exits(0);
            }
            rounds += 1;
            // One lake a round, to leave the machine to the syncs.
            let index = usize::try_from(rounds).unwrap() % lakes.len();
            is_a_state_that_was_if_mirror(lakes[index]);
        }
    });
    rounds
}

/// Tells writers to stop, also when a sync has failed the test.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_a_state_that_was_if_mirror(lake: &Lake) {
    let config = std::fs::read_to_string(lake.config()).unwrap();
    if !config.contains("append") {
        is_a_state_that_was(lake);
    }
}

#[test]
fn no_method_loses_a_row() {
    let database = Database::create();
    items(&database);
    let [xid, mut cursor, diff] = ["xid", "cursor", "diff"].map(|method| mirror(&database, method));
    let rounds = sync_while_writing(&database, &[&xid, &cursor, &diff], true);
    assert!(rounds > 2, "{rounds} rounds prove nothing");
    for lake in [&xid, &diff] {
        lake.run().exits(0);
        is_a_state_that_was(lake);
        println!("{rounds} rounds, {} rows", rows(lake, TABLE).rows());
    }
    // A cursor sees no deletes, but every insert and every update.
    cursor.run().exits(0);
    let (_, found) = Check::of(&cursor, TABLE).compare();
    assert_eq!(Rows::missing(&found), 0, "{found:#}");
    cursor.set(r#"reconcile = "always""#);
    cursor.run().exits(0);
    rows(&cursor, TABLE);
}

/// Without deletes a cursor alone keeps the lake equal. Control arm: a cursor
/// without the in-flight bound loses rows in the same scenario.
#[test]
fn a_cursor_needs_its_bound() {
    let database = Database::create();
    items(&database);
    let (safe, naive) = (mirror(&database, "cursor"), naive(&database));
    sync_while_writing(&database, &[&safe, &naive], false);
    // However the writers fared: one that is certainly late.
    let late = Session::open(&database);
    late.run("begin; insert into items (id, writer, v) values (1, 0, 0)");
    database.sql("insert into items (id, writer, v) values (2, 0, 0)");
    for lake in [&safe, &naive] {
        lake.run().exits(0);
    }
    late.run("commit");
    safe.run().exits(0);
    rows(&safe, TABLE);
    naive.run().exits(0);
    let (_, found) = Check::of(&naive, TABLE).compare();
    let lost = Rows::missing(&found);
    assert!(
        lost > 0,
        "the naive cursor lost nothing: this proves nothing"
    );
    println!("the naive cursor lost {lost} rows");
}

/// A prepared transaction that is pending when the table is loaded for the first
/// time holds back a watermark that is not there yet.
#[test]
fn prepared_before_the_first_load() {
    let database = Database::create();
    items(&database);
    let session = Session::open(&database);
    session.run("begin; insert into items (id, writer, v) values (1, 0, 0); update items set v = 7 where id = 1000001; prepare transaction 'early'");
    database.sql("insert into items (id, writer, v) values (2, 0, 0)");
    let lake = mirror(&database, "cursor").with(r#"reconcile = "never""#);
    lake.run().exits(0).says(&["early"]);
    lake.run().exits(0).says(&["early"]);
    session.run("commit prepared 'early'");
    lake.run().exits(0);
    rows(&lake, TABLE);
    database.sql("update items set v = 8 where id = 2");
    lake.run().exits(0);
    rows(&lake, TABLE);
}
