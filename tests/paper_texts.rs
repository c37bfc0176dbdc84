//! `paper-index` on a text column: of a table of a lake, and of a database.

use crate::kit;

use kit::compact::ForeignTable;
use kit::lake::Lake;
use kit::outcome::Outcome;
use kit::papers::{Papers, number, start};
use kit::postgres::Database;
use serde_json::json;

const TABLE: &str = "create table articles (id int, part text, body text, other int, primary key (part, id));
insert into articles select n, 'p' || n % 3, 'Article ' || n || ' speaks of rivers and bridges. '
  || repeat('It goes on for a while. ', n % 4), n from generate_series(1, 60) n;
insert into articles values (1000, 'none', null, 1), (1001, 'a/b', 'A row with a slash in its key.', 1);";

const CHANGES: &str = "update articles set body = 'A new text about mountains.' where id in (5, 7);
update articles set other = other + 1;
delete from articles where id = 9;
insert into articles values (2000, 'p1', 'One more article.', 0);";

/// What runs over an instance before and after the changes must report.
fn follow(papers: &Papers, change: impl Fn()) {
    let first = papers.run().exits(0);
    assert_eq!(
        number(&first, "new"),
        61,
        "a row without a text is no document"
    );
    let found = papers.holds();
    assert!(
        found["documents"]["a%2Fb/1001"].as_u64() == Some(1),
        "{found:#}"
    );
    let again = papers.run().exits(0);
    assert_eq!((number(&again, "new"), number(&again, "changed")), (0, 0));
    change();
    let changed = papers.run().exits(0);
    let counts = ["new", "changed", "deleted", "embedded"].map(|name| number(&changed, name));
    // Two rows have one text: it is embedded once.
    assert_eq!(
        counts,
        [1, 2, 1, 2],
        "a column that is no text changes nothing"
    );
    papers.holds();
    start("run", &papers.config_into("fresh"), &[])
        .wait()
        .exits(0);
    papers.holds_as(&json!({"other": papers.home().join("fresh/docs")}));
}

const COLUMNS: &str = "text_column = \"body\"\nkey_columns = [\"part\", \"id\"]";

fn papers_of(source: &str, more: &str) -> Papers {
    Papers::new()
        .from(source)
        .of_instance(COLUMNS)
        .of_instance(more)
}

#[test]
fn a_text_column_of_postgres_is_followed() {
    let database = Database::create();
    database.sql(TABLE);
    let papers = papers_of(&database.url(), "table = \"public.articles\"");
    follow(&papers, || {
        database.sql(CHANGES);
    });
}

#[test]
fn a_text_column_of_a_lake_is_followed() {
    let database = Database::create();
    database.sql(TABLE);
    let lake = Lake::local(database.url());
    lake.run().exits(0);
    let papers = papers_of(&format!("table:{}/public/articles", lake.place().url()), "");
    follow(&papers, || {
        database.sql(CHANGES);
        lake.run().exits(0);
    });
}

/// Where a table is made anew its versions begin at zero again. What is known of the source
/// names the table, too (the position in `Source::rows`, `pipelines/paper_index/source.rs`).
#[test]
fn a_table_that_is_made_anew_is_read_anew() {
    let table = ForeignTable::empty();
    // Some rows have no text: NULL, or an empty one.
    let make = |from: u64| {
        table.asks(json!({"do": "append", "from": from, "to": from + 60}));
        assert_eq!(table.version(), 0);
    };
    let papers = Papers::new()
        .from(&format!("table:file:{}", table.path().display()))
        .of_instance("text_column = \"words\"\nkey_columns = [\"id\"]");
    let counts = |run: &Outcome| ["new", "deleted", "unchanged"].map(|name| number(run, name));
    make(0);
    assert_eq!(counts(&papers.run().exits(0)), [54, 0, 0]);
    // Where it was left nothing is read: that is what must not happen below.
    assert_eq!(counts(&papers.run().exits(0)), [0, 0, 0]);
    // While there is none, it is not an empty one.
    std::fs::remove_dir_all(table.path()).unwrap();
    papers.run().exits(1).says(&["holds no Delta table"]);
    assert_eq!(papers.holds()["documents"].as_object().unwrap().len(), 54);
    make(1000);
    assert_eq!(counts(&papers.run().exits(0)), [54, 54, 0]);
    start("run", &papers.config_into("fresh"), &[])
        .wait()
        .exits(0);
    papers.holds_as(&json!({"other": papers.home().join("fresh/docs")}));
    // The same rows once more are read, found to be the same, and then known.
    std::fs::remove_dir_all(table.path()).unwrap();
    make(1000);
    assert_eq!(counts(&papers.run().exits(0)), [0, 0, 54]);
    assert_eq!(counts(&papers.run().exits(0)), [0, 0, 0]);
    papers.holds();
}

/// What was set aside for want of memory is read when there is more of it, although the table
/// has not moved; before and after that nothing is read. Guards the limits in
/// `Reading::still_holds` (`pipelines/paper_index/reading.rs`).
#[test]
fn more_memory_lets_rows_in_that_have_not_changed() {
    let database = Database::create();
    database.sql(
        "create table pages (id int primary key, body text);
insert into pages values (1, 'A short text.'), (2, '<html><!-- ' || repeat('no text ', 2000000)
  || ' --><body><p>A page with little to say.</p></body></html>');",
    );
    let lake = Lake::local(database.url());
    lake.run().exits(0);
    let papers = Papers::new()
        .from(&format!("table:{}/public/pages", lake.place().url()))
        .with("memory = \"512MiB\"")
        .of_instance("text_column = \"body\"\nkey_columns = [\"id\"]");
    let names = ["new", "changed", "unchanged", "quarantined"];
    let counts = |run: &Outcome| names.map(|name| number(run, name));
    let first = papers.run().exits(3);
    assert_eq!(counts(&first), [2, 0, 0, 1]);
    first.says(&["too large: 16000"]);
    assert_eq!(counts(&papers.run().exits(0)), [0, 0, 0, 0]);
    let config = papers.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("512MiB", "3GiB")).unwrap();
    let run = || start("run", &config, &[]).wait().exits(0);
    assert_eq!(counts(&run()), [0, 1, 1, 0]);
    let found = papers.holds();
    assert!(found["documents"]["2"].as_u64() > Some(0), "{found:#}");
    assert_eq!(counts(&run()), [0, 0, 0, 0]);
}

#[test]
fn columns_that_are_not_there_are_refused_by_name() {
    let database = Database::create();
    database.sql(TABLE);
    let wrong = Papers::new().from(&database.url()).of_instance(
        "table = \"public.articles\"\ntext_column = \"boddy\"\nkey_columns = [\"id\"]",
    );
    wrong.run().exits(2).says(&["boddy"]);
    let twice = Papers::new().from(&database.url()).of_instance(
        "table = \"public.articles\"\ntext_column = \"body\"\nkey_columns = [\"part\"]",
    );
    twice.run().exits(2).says(&["two rows have the key"]);
}
