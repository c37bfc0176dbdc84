//! `paper-index` and a real ChromaDB server: the collection is what the lake is, whatever
//! happened in between, and nothing is embedded for it.

use crate::kit;

use std::time::Duration;

use kit::Random;
use kit::chroma::ChromaServer;
use kit::gate::Gate;
use kit::oracle::ask;
use kit::papers::{Papers, document, number, paragraph, start};
use kit::place::Place;
use kit::s3::{Action, Rule};
use serde_json::{Value, json};

fn papers_of(server: &ChromaServer) -> Papers {
    let url = server.url();
    Papers::new().of_instance(&format!("chroma = \"{url}\"\ncollection = \"papers\""))
}

fn http(server: &ChromaServer) -> String {
    format!("http://{}", server.address())
}

/// The collection equals the table, as others read both.
#[track_caller]
fn equal(papers: &Papers, server: &ChromaServer) -> Value {
    papers.holds_as(&json!({"chroma": http(server), "collection": "papers"}))
}

/// The same, where it may be otherwise.
fn is_equal(papers: &Papers, server: &ChromaServer) -> bool {
    let question = json!({"table": papers.table(), "chroma": http(server), "collection": "papers"});
    ask("papers.py", &question).0
}

#[track_caller]
fn harm(server: &ChromaServer, harm: &str) {
    harm_by(server, &json!({ "harm": harm }));
}

/// What it has and says after that.
#[track_caller]
fn harm_by(server: &ChromaServer, how: &Value) -> Value {
    let mut question = json!({"chroma": http(server), "collection": "papers"});
    for (name, value) in how.as_object().into_iter().flatten() {
        question[name] = value.clone();
    }
    let (ok, told) = ask("harm_chroma.py", &question);
    assert!(ok, "{how}");
    told
}

fn sent(outcome: &kit::outcome::Outcome) -> (u64, u64) {
    let report = outcome.report();
    let chroma = &report["documents"][0]["chroma"];
    let count = |name: &str| {
        chroma[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{report:#}"))
    };
    (count("upserted"), count("deleted"))
}

#[test]
fn the_collection_follows_the_lake_and_is_mended() {
    let mut random = Random::seeded();
    let mut server = ChromaServer::start();
    let papers = papers_of(&server);
    let mut texts: Vec<String> = (0..20).map(|_| document(&mut random, 4)).collect();
    for (n, text) in texts.iter().enumerate() {
        papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    }
    let first = papers.run().exits(0);
    let chunks = equal(&papers, &server)["chunks"].as_object().unwrap().len() as u64;
    assert_eq!(sent(&first), (chunks, 0));
    assert_eq!(sent(&papers.run().exits(0)), (0, 0), "nothing has changed");

    // A paragraph changes, a document goes: what differs is sent, and no more.
    let old = texts[3].split("\n\n").nth(1).unwrap().to_owned();
    texts[3] = texts[3].replace(&old, &paragraph(&mut random));
    papers.docs().put("n03.md", texts[3].as_bytes());
    papers.docs().remove("n07.md");
    let changed = papers.run().exits(0);
    equal(&papers, &server);
    let (upserted, deleted) = sent(&changed);
    assert!(upserted > 0 && deleted > 0, "{changed}");
    assert!(
        upserted + deleted < chunks / 2,
        "{upserted} + {deleted} of {chunks}"
    );

    // The server is away: the lake goes on, the collection follows later.
    server.kill();
    papers
        .docs()
        .put("n08.md", document(&mut random, 2).as_bytes());
    papers.run().exits(4).says(&["behind the lake"]);
    papers.holds();
    server.restart();
    let late = papers.run().exits(0);
    assert_eq!(number(&late, "embedded"), 0);
    equal(&papers, &server);

    // The collection is emptied, filled by others, removed: mended from the lake.
    for how in ["some", "empty", "add", "remove"] {
        harm(&server, how);
        let mended = papers.run().exits(0);
        assert_eq!(number(&mended, "embedded"), 0, "{how}");
        equal(&papers, &server);
    }
}

/// The lake comes first: while it cannot be written, the collection stays as it is.
#[test]
fn the_collection_never_has_what_the_lake_has_not() {
    let mut random = Random::seeded();
    let server = ChromaServer::start();
    let place = Place::s3();
    let papers = papers_of(&server).into_lake(place.clone());
    let put = |n: usize, random: &mut Random| {
        let text = document(random, 4);
        papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    };
    (0..5).for_each(|n| put(n, &mut random));
    papers.run().exits(0);
    let before = server.points("papers").unwrap();
    assert!(before > 0);
    put(5, &mut random);
    let log = "lake/*/docs/_delta_log/*";
    let faults = place.server().faults();
    faults.add(Rule::new("PUT", log, Action::Forbid403));
    let failed = papers.run().cleanly();
    assert_ne!(failed.code, Some(0));
    assert!(number(&failed, "embedded") > 0, "it was about to: {failed}");
    assert_eq!(server.points("papers"), Some(before));
    // The control arm: nothing else kept it from the collection.
    faults.clear();
    papers.run().exits(0);
    assert!(server.points("papers") > Some(before));
}

#[test]
fn a_collection_is_right_after_kills_on_both_sides() {
    let mut random = Random::seeded();
    let mut server = ChromaServer::start();
    let papers = papers_of(&server);
    for n in 0..30 {
        papers
            .docs()
            .put(&format!("n{n:02}.md"), document(&mut random, 5).as_bytes());
    }
    let kills = kit::size("HIGHWATER_KILLS", 25).min(25);
    for kill in 0..kills {
        let mut run = papers.start();
        std::thread::sleep(Duration::from_millis(200 + random.below(3_000)));
        if kill % 3 == 0 {
            server.kill();
            run.wait().cleanly();
            server.restart();
        } else if run.is_running() {
            run.kill().cleanly();
        } else {
            run.wait().cleanly();
        }
        let n = random.below(30);
        papers
            .docs()
            .put(&format!("n{n:02}.md"), document(&mut random, 5).as_bytes());
    }
    papers.run().exits(0);
    equal(&papers, &server);
}

/// Runs until the server has answered so many requests that write, of points or of what the
/// collection says, and has not seen the next one; then kill -9.
#[track_caller]
fn killed_after(writes: u64, papers: &Papers, server: &ChromaServer) {
    let gate = Gate::to(server.address(), writes);
    let config = std::fs::read_to_string(papers.config()).unwrap();
    let gated = papers.home().join("gated.toml");
    std::fs::write(&gated, config.replace(&server.address(), gate.address())).unwrap();
    let mut run = start("run", &gated, &[]);
    while run.is_running() && !gate.holds() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let killed = run.kill().cleanly();
    assert!(gate.holds(), "it wrote {writes} times or less: {killed}");
}

/// The collection says that it is on its way, and equals no version: `Target::begin`.
#[track_caller]
fn is_not_said_to_be_equal(server: &ChromaServer) {
    let said = server.says("papers").unwrap();
    let (under_way, version) = (&said["highwater_under_way"], &said["highwater_version"]);
    assert_eq!((under_way, version), (&json!(true), &json!(-1)), "{said}");
}

/// The collection is the lake's, as others read both, and says so.
#[track_caller]
fn equal_and_said_to_be(papers: &Papers, server: &ChromaServer) {
    let found = equal(papers, server);
    let said = server.says("papers").unwrap();
    let (under_way, version) = (&said["highwater_under_way"], &said["highwater_version"]);
    assert_eq!(
        (under_way, version),
        (&json!(false), &found["version"]),
        "{said}"
    );
}

/// Three files of the table or more: so many writes are one after the other, after the one
/// that says that the run is on its way, and before the one that says that it is done.
fn files_in(server: &ChromaServer) -> (Papers, u64) {
    let mut random = Random::seeded();
    let papers = papers_of(server);
    for n in 0..24 {
        papers
            .docs()
            .put(&format!("n{n:02}.md"), document(&mut random, 4).as_bytes());
    }
    papers.run().exits(0);
    let files = equal(&papers, server)["files"].as_u64().unwrap();
    assert!(files >= 3, "{files} files");
    (papers, files)
}

/// Each run is killed one write later than the one before it. What is half mended is never
/// said to be equal (`Target::begin` in `equalise`), and is gone on with (`State::known`).
#[test]
fn a_collection_that_was_emptied_is_mended_through_kills() {
    let server = ChromaServer::start();
    let (papers, files) = files_in(&server);
    let all = server.points("papers").unwrap();
    harm(&server, "empty");
    let mut half = 0;
    for writes in 1..=files + 1 {
        killed_after(writes, &papers, &server);
        is_not_said_to_be_equal(&server);
        let points = server.points("papers").unwrap();
        half += u64::from(points > 0 && points < all);
    }
    assert!(half >= 2, "{half} kills left half of it");
    let mended = papers.run().exits(0);
    assert_eq!(number(&mended, "embedded"), 0);
    equal_and_said_to_be(&papers, &server);
}

/// Two points are gone, and one is there that is not ours. When one of the two is back, the
/// count is right and the collection is not: a run that is killed then must have said that
/// it is on its way (`Target::begin` in `equalise`), or no run would look at it again.
#[test]
fn a_count_that_is_right_by_chance_is_not_taken_for_equal() {
    let server = ChromaServer::start();
    let (papers, files) = files_in(&server);
    let all = server.points("papers").unwrap();
    let mut by_chance = 0;
    // One more write than above: what is not ours is deleted, last of all points.
    for writes in 1..=files + 2 {
        harm(&server, "swap");
        assert_eq!(server.points("papers"), Some(all - 1));
        killed_after(writes, &papers, &server);
        is_not_said_to_be_equal(&server);
        let deleted = writes > files + 1;
        by_chance += u64::from(!deleted && server.points("papers") == Some(all));
        let mended = papers.run().exits(0);
        assert_eq!(number(&mended, "embedded"), 0, "{writes}");
        equal_and_said_to_be(&papers, &server);
    }
    assert!(
        by_chance > 0,
        "no kill left the right number of wrong points"
    );
}

/// Where the table of chunks is made anew, its versions begin at zero again, and it may have
/// as many chunks as before. The collection says which table it equals (`lake` in
/// `equalise`, `State::is_of`): another one of the same name is compared as a whole.
#[test]
fn a_table_that_is_made_anew_is_another_one() {
    let server = ChromaServer::start();
    let papers = papers_of(&server);
    let put = |what: &str| {
        for n in 0..6 {
            let text = format!("{what} {n} lies by the old bridge.");
            papers.docs().put(&format!("n{n}.txt"), text);
        }
    };
    put("River");
    let first = papers.run().exits(0);
    assert_eq!(sent(&first), (6, 0));
    equal(&papers, &server);
    std::fs::remove_dir_all(papers.table()).unwrap();
    put("Garden");
    let anew = papers.run().exits(0);
    let version = |run: &kit::outcome::Outcome| {
        let report = run.report();
        report["documents"][0]["chroma"]["version"].as_u64()
    };
    assert_eq!(
        version(&first),
        version(&anew),
        "not the trap that it should be"
    );
    assert_eq!(sent(&anew), (6, 6));
    anew.says(&["it is of another table"]);
    assert_eq!(server.points("papers"), Some(6));
    equal_and_said_to_be(&papers, &server);
    assert_eq!(sent(&papers.run().exits(0)), (0, 0));
}

#[test]
fn a_server_that_is_none_leaves_the_lake_whole() {
    let papers = Papers::new().of_instance("chroma = \"http://127.0.0.1:9\"");
    papers.docs().put("a.txt", "One short text.");
    papers.run().exits(4).says(&["127.0.0.1:9"]);
    papers.holds();
}

/// Points that others have put there may be all that there is of them: `Target::check_owner`
/// in `equalise`. The lake does not wait for that.
#[test]
fn points_of_others_are_left_as_they_are() {
    let mut random = Random::seeded();
    let server = ChromaServer::start();
    let papers = papers_of(&server);
    papers
        .docs()
        .put("a.md", document(&mut random, 3).as_bytes());
    let elsewhere = json!({
        "highwater_lake": "file:///elsewhere/lake/docs/ 1f3a",
        "highwater_version": 0,
        "highwater_points": 3,
        "highwater_under_way": false,
    });
    let look = json!({"harm": "look"});
    let of_nobody = "does not say that it is of any table";
    for (metadata, whose) in [
        (Value::Null, of_nobody),
        (json!({"owner": "the shop"}), of_nobody),
        (elsewhere, "it is of the table file:///elsewhere/lake/docs/"),
    ] {
        let found = json!({"harm": "found", "points": 3, "metadata": metadata});
        let before = harm_by(&server, &found);
        let place = format!("of {}/ has 3 points of others", http(&server));
        let what_to_do = "name another one with `collection`";
        papers
            .run()
            .exits(2)
            .says(&["collection papers", place.as_str(), whose, what_to_do]);
        papers.holds();
        let after = harm_by(&server, &look);
        for what in ["has", "says"] {
            assert_eq!(before[what], after[what], "{whose}");
        }
        harm(&server, "remove");
    }
    // The control arm: nothing else kept it from the collection. An empty one is taken over.
    let empty = json!({"harm": "found", "points": 0, "metadata": {"owner": "the shop"}});
    harm_by(&server, &empty);
    papers.run().exits(0);
    equal_and_said_to_be(&papers, &server);

    // The same documents in another lake: the collection is that of the first one.
    let before = harm_by(&server, &look);
    let other = start("run", &papers.config_into("other"), &[]).wait();
    other
        .exits(2)
        .says(&["it is of the table file:", "/lake/docs/"]);
    let after = harm_by(&server, &look);
    for what in ["has", "says"] {
        assert_eq!(before[what], after[what]);
    }
}

/// What no run could do is refused before anything is read: `check_collections`.
#[test]
fn collections_that_cannot_be_are_refused() {
    let of = |instance: &str| Papers::new().of_instance(instance);
    let named_twice = of(
        "chroma = \"chroma://127.0.0.1:9\"\ncollection = \"papers\"\n\
         [instances.more]\nsource = \"file:more\"\n\
         chroma = \"http://127.0.0.1:9/\"\ncollection = \"papers\"",
    );
    let short = of("chroma = \"chroma://127.0.0.1:9\"\ncollection = \"ai\"");
    for (papers, said) in [
        (named_twice, "`docs` and `more` would write one collection"),
        (short, "`ai` is no name for a collection"),
    ] {
        papers.run().exits(2).says(&[said]);
        assert!(!papers.home().join("lake").exists());
    }
}

/// A document of one chunk; its title is not part of the text.
fn titled(title: &str, text: &str) -> String {
    format!("---\ntitle: {title}\n---\n{text} lies by the old bridge.")
}

/// The lake goes on, and the collection stays as it is.
#[track_caller]
fn run_without_collection(papers: &Papers) {
    let config = std::fs::read_to_string(papers.config()).unwrap();
    let of_chroma = |line: &&str| line.starts_with("chroma =") || line.starts_with("collection =");
    let lines: Vec<&str> = config.lines().filter(|line| !of_chroma(line)).collect();
    let alone = papers.home().join("alone.toml");
    std::fs::write(&alone, lines.join("\n")).unwrap();
    start("run", &alone, &[]).wait().exits(0);
}

/// The number of points is right and what they hold is not, and the next run finds that.
#[track_caller]
fn trapped_and_mended(papers: &Papers, server: &ChromaServer) -> kit::outcome::Outcome {
    assert_eq!(server.points("papers"), Some(6));
    assert!(!is_equal(papers, server), "not the trap that it should be");
    let mended = papers.run().exits(0);
    equal_and_said_to_be(papers, server);
    mended
}

/// A run has written what its version changed, and is killed before it says so. Then the lake
/// goes back: between the version that the collection equalled and the newest one nothing
/// lies. The collection says to which version the run was on its way (`Target::begin`), and
/// what lies between that and the newest one is written, too (`steps`).
#[test]
fn what_an_interrupted_run_wrote_goes_when_the_lake_goes_back() {
    let server = ChromaServer::start();
    let papers = papers_of(&server);
    let put = |n: usize, title: &str, text: &str| {
        papers.docs().put(&format!("n{n}.md"), titled(title, text));
    };
    for n in 0..6 {
        put(n, "River", &format!("Water {n}"));
    }
    papers.run().exits(0);
    equal(&papers, &server);
    let compared_as_a_whole = |run: &kit::outcome::Outcome| {
        let report = run.report();
        !report["documents"][0]["chroma"]["because"].is_null()
    };

    // One chunk comes and another one goes; and one stays and says something else.
    for (title, text, deleted) in [("River", "Sand", 1), ("Garden", "Water 2", 0)] {
        put(2, title, text);
        killed_after(2 + deleted, &papers, &server);
        put(2, "River", "Water 2");
        run_without_collection(&papers);
        let mended = trapped_and_mended(&papers, &server);
        assert_eq!(sent(&mended), (1, deleted));
        assert!(!compared_as_a_whole(&mended), "{mended}");
    }

    // A second run is killed when it has said where it goes and done nothing: what the first
    // one wrote is not forgotten (`towards` in `Target::begin`).
    put(2, "River", "Sand");
    killed_after(3, &papers, &server);
    put(2, "River", "Water 2");
    put(4, "Garden", "Water 4");
    killed_after(1, &papers, &server);
    put(4, "River", "Water 4");
    run_without_collection(&papers);
    let mended = trapped_and_mended(&papers, &server);
    assert_eq!(sent(&mended), (2, 1));
    assert!(!compared_as_a_whole(&mended), "{mended}");

    // Where it does not say to which one, all is written.
    put(2, "River", "Sand");
    killed_after(3, &papers, &server);
    harm(&server, "forget");
    put(2, "River", "Water 2");
    run_without_collection(&papers);
    let mended = trapped_and_mended(&papers, &server);
    assert_eq!(sent(&mended), (6, 1));
    mended.says(&["does not say on its way to what"]);
}

/// What is compared as a whole is written again, whatever is there under the same id
/// (`target.upsert` in `reconcile`). That it is, the number of points alone decides: a run
/// after these harms does nothing, and is the control arm.
#[test]
fn a_collection_that_is_mended_says_what_the_lake_says() {
    let server = ChromaServer::start();
    let papers = papers_of(&server);
    let full = "---\ntitle: On water\nauthors:\n  - A. One\n  - B. Two\ndate: 2020-01-02\n\
         tags: [lakes, rivers]\n---\n# Banks\n\nThe river is wide.\n\n# Bridges\n\nAll are old.";
    papers.docs().put("full.md", full);
    papers
        .docs()
        .put("plain.txt", "This says nothing of itself.");
    papers.run().exits(0);
    equal(&papers, &server);
    for how in ["edit", "tell"] {
        harm(&server, how);
        assert!(!is_equal(&papers, &server), "{how}");
        assert_eq!(sent(&papers.run().exits(0)), (0, 0), "{how}");
        harm(&server, "add");
        papers.run().exits(0);
        equal_and_said_to_be(&papers, &server);
    }
}
