//! `object-sync` with a packed table on one side: the same objects, as rows of a
//! table that others read, and as objects again.

use crate::kit;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use kit::objects::{Side, assert_equal, noise, number, start, sync};
use kit::oracle::ask;
use kit::s3::{Action, Rule};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A folder of objects, and one for the table.
struct Home {
    _home: tempfile::TempDir,
    from: Side,
    packed: Side,
    back: Side,
}

fn home() -> Home {
    let home = kit::scratch();
    let folder = |name: &str| {
        let path = home.path().join(name);
        fs::create_dir_all(&path).unwrap();
        Side::Folder(path)
    };
    Home {
        from: folder("things"),
        packed: Side::Packed(home.path().join("lake/things")),
        back: folder("back"),
        _home: home,
    }
}

fn fill(side: &Side, count: u64) {
    for number in 0..count {
        let bytes = [0, 1, 100, 4_096, 30_000][(number % 5) as usize];
        side.put(
            &format!("f{}/k{number:05}", number % 7),
            noise(number, bytes),
        );
    }
}

/// Asks a reader of others what the table holds; it must be what `side` holds.
#[track_caller]
fn holds(packed: &Side, side: &Side) -> Value {
    let Side::Packed(table) = packed else {
        unreachable!()
    };
    let (ok, found) = ask("packed.py", &json!({"table": table}));
    assert!(ok, "{:#}", found["wrong"]);
    let expected: BTreeMap<String, Value> = side
        .all()
        .into_iter()
        .map(|(key, content)| {
            let digest = Sha256::digest(&content);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            (key, json!([content.len(), digest]))
        })
        .collect();
    assert!(
        found["objects"] == json!(expected),
        "other objects are packed"
    );
    found
}

#[test]
fn a_folder_is_packed_and_unpacked() {
    let Home {
        _home,
        from,
        packed,
        back,
    } = home();
    fill(&from, 500);
    for key in [
        "a.b",
        "a/b",
        "a b/c  d",
        "ümläut/日本語/🦀",
        "quote'\"<&>",
        "new\nline",
    ] {
        from.put(key, key.as_bytes());
    }
    let plan = start("plan", &from, &packed, &[]).wait().exits(0);
    plan.says(&["\"copied\":506"]);
    let outcome = sync(&from, &packed, &[]).exits(0);
    assert_eq!(number(&outcome, "copied"), 506);
    let first = holds(&packed, &from);
    sync(&packed, &back, &[]).exits(0);
    assert_equal(&from, &back);
    // Nothing has changed: no version, no object.
    let again = sync(&from, &packed, &[]).exits(0);
    assert_eq!(
        (number(&again, "copied"), number(&again, "unchanged")),
        (0, 506)
    );
    assert_eq!(holds(&packed, &from)["version"], first["version"]);
    let again = sync(&packed, &back, &[]).exits(0);
    assert_eq!(number(&again, "copied"), 0);
    start("verify", &from, &packed, &[]).wait().exits(0);
    from.put("a.b", "other");
    start("verify", &from, &packed, &[])
        .wait()
        .exits(5)
        .says(&["a.b"]);
}

#[test]
fn tags_are_packed_and_come_back() {
    let (home, from) = (kit::scratch(), Side::bucket());
    let packed = Side::Packed(home.path().join("packed"));
    from.put("tagged", "x");
    from.put("bare", "y");
    let tags = [("stage", "raw data")];
    from.server().tag("things", &from.full("tagged"), &tags);
    sync(&from, &packed, &["--tags"]).exits(0);
    for (more, expected) in [(&["--tags"][..], 1), (&[], 0)] {
        let back = Side::bucket();
        sync(&packed, &back, more).exits(0);
        assert_equal(&from, &back);
        let found = back.server().tags("things", &back.full("tagged"));
        assert_eq!(found.len(), expected);
        assert!(back.server().tags("things", &back.full("bare")).is_empty());
    }
}

#[test]
fn only_files_are_written_anew_that_something_has_changed_in() {
    let Home {
        _home,
        from,
        packed,
        ..
    } = home();
    fill(&from, 700);
    sync(&from, &packed, &[]).exits(0);
    let files = |packed: &Side| {
        let Side::Packed(table) = packed else {
            unreachable!()
        };
        let names = fs::read_dir(table).unwrap().flatten();
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        names
            .filter(|name| name.ends_with(".parquet"))
            .collect::<Vec<_>>()
    };
    let before = files(&packed);
    assert!(before.len() >= 7, "{before:?}");
    from.put("f3/k00003", "changed");
    from.put("f3/k00003-new", "new");
    from.remove("f3/k00010");
    let outcome = sync(&from, &packed, &[]).exits(0);
    assert_eq!(
        (number(&outcome, "copied"), number(&outcome, "extra")),
        (2, 1)
    );
    // The log keeps the old file: one more lies in the folder, not seven.
    assert_eq!(files(&packed).len(), before.len() + 1);
    // What is gone stays until it is wanted otherwise, and not too much of it goes.
    from.remove("f3/k00017");
    sync(&from, &packed, &["--delete", "--max-delete", "0%"])
        .exits(1)
        .says(&["max-delete", "2 of"]);
    let dry = sync(&from, &packed, &["--delete", "--dry-run"]).exits(0);
    assert_eq!(number(&dry, "deleted"), 2);
    let outcome = sync(&from, &packed, &["--delete"]).exits(0);
    assert_eq!(number(&outcome, "deleted"), 2);
    holds(&packed, &from);
}

#[test]
fn nothing_goes_where_not_all_was_counted() {
    let Home { _home, packed, .. } = home();
    let from = Side::bucket();
    fill(&from, 140);
    sync(&from, &packed, &[]).exits(0);
    for number in 0..100 {
        from.remove(&format!("f{}/k{number:05}", number % 7));
    }
    // After the look at the bucket: the listing of the first range that is counted.
    let refused = Rule::new("GET", "things*", Action::Forbid403);
    from.server().faults().add(refused.after(1).times(1));
    sync(&from, &packed, &["--delete", "--workers", "1"])
        .exits(1)
        .says(&["so none goes"]);
    let faults = from.server().faults();
    assert_eq!(faults.count(|seen| seen.fault.is_some()), 1);
    faults.clear();
    fill(&from, 140);
    holds(&packed, &from);
}

#[test]
fn a_folder_behind_a_link_is_not_gone() {
    let Home {
        _home,
        from,
        packed,
        ..
    } = home();
    fill(&from, 140);
    sync(&from, &packed, &[]).exits(0);
    let Side::Folder(folder) = &from else {
        unreachable!()
    };
    let elsewhere = _home.path().join("elsewhere");
    fs::rename(folder.join("f3"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.join("f3")).unwrap();
    let more = ["--delete", "--max-delete", "100%"];
    let outcome = sync(&from, &packed, &more).exits(3);
    assert_eq!(
        (number(&outcome, "deleted"), number(&outcome, "extra")),
        (0, 0)
    );
    fs::remove_file(folder.join("f3")).unwrap();
    fs::rename(&elsewhere, folder.join("f3")).unwrap();
    holds(&packed, &from);
}

#[test]
fn a_bucket_is_packed_with_what_is_told_of_its_objects() {
    let Home { _home, packed, .. } = home();
    let (from, to) = (Side::bucket(), Side::bucket());
    fill(&from, 200);
    for key in ["a//b", "/lead", "trail/"] {
        from.put(key, key.as_bytes());
    }
    from.put("told", "x");
    let full = from.full("told");
    from.server()
        .describe("things", &full, "text/plain", &[("owner", "me")]);
    sync(&from, &packed, &[]).exits(0);
    holds(&packed, &from);
    sync(&packed, &to, &[]).exits(0);
    assert_equal(&from, &to);
    let (content_type, metadata) = to.server().description("things", &to.full("told"));
    assert_eq!(content_type.as_deref(), Some("text/plain"));
    assert_eq!(metadata.get("owner").map(String::as_str), Some("me"));
}

#[test]
fn what_cannot_be_packed_is_named() {
    let Home {
        _home,
        from,
        packed,
        back,
    } = home();
    fill(&from, 20);
    from.put("large", noise(1, 40 << 20));
    let outcome = sync(&from, &packed, &["--memory", "128MiB"]).exits(3);
    outcome.says(&["large", "too many to be packed"]);
    from.remove("large");
    sync(&from, &packed, &[]).exits(0);
    holds(&packed, &from);
    // The table of another source is not touched.
    back.put("k", "v");
    sync(&back, &packed, &[])
        .exits(2)
        .says(&["was packed from"]);
    holds(&packed, &from);
    let nothing = Side::Packed(_home.path().join("lake/nothing"));
    sync(&nothing, &back, &[])
        .exits(2)
        .says(&["nothing packed"]);
}

#[test]
fn a_kill_leaves_a_table_that_can_be_read() {
    let mut random = kit::Random::seeded();
    let Home {
        _home,
        from,
        packed,
        back,
    } = home();
    fill(&from, 3000);
    for round in 0..kit::size("HIGHWATER_KILLS", 6) {
        let running = start("run", &from, &packed, &[]);
        std::thread::sleep(Duration::from_millis(20 + random.below(600)));
        running.kill();
        from.put(&format!("f{}/killed", round % 7), format!("{round}"));
    }
    sync(&from, &packed, &[]).exits(0);
    holds(&packed, &from);
    sync(&packed, &back, &[]).exits(0);
    assert_equal(&from, &back);
}

#[test]
fn memory_stays_within_its_limit() {
    let Home {
        _home,
        from,
        packed,
        back,
    } = home();
    for number in 0..600_u64 {
        from.put(
            &format!("f{}/k{number}", number % 3),
            noise(number, 500_000),
        );
    }
    for (source, target) in [(&from, &packed), (&packed, &back)] {
        let outcome = sync(source, target, &["--memory", "160MiB"]).exits(0);
        let peak = outcome.number("peak_rss_bytes");
        println!("peak {} MiB in {:?}", peak >> 20, outcome.wall);
        assert!(peak <= 160 << 20, "{peak}");
    }
    assert_equal(&from, &back);
}
