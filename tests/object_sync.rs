//! `object-sync`: both places hold the same objects, whatever they are called and
//! whatever happens on the way.

use crate::kit;

use std::fs;
use std::time::{Duration, Instant};

use kit::objects::{Side, assert_equal, noise, number, start, sync};
use kit::s3::{Action, Rule};

/// A folder of a test's own.
fn folder() -> (tempfile::TempDir, Side) {
    let home = kit::scratch();
    let side = Side::Folder(home.path().join("things"));
    fs::create_dir_all(home.path().join("things")).unwrap();
    (home, side)
}

/// Objects of many sizes in some folders.
fn fill(side: &Side, count: u64) {
    for number in 0..count {
        let bytes = [0, 1, 100, 4_096, 70_000][(number % 5) as usize];
        side.put(
            &format!("f{}/k{number:05}", number % 7),
            noise(number, bytes),
        );
    }
}

/// Keys that are files as well, and that somebody would get wrong.
const ODD: &[&str] = &[
    "a.b",
    "a/b",
    "a!",
    "a0",
    "a b/c  d",
    "plus+and%20percent%",
    "ümläut/日本語/🦀",
    "quote'\"<&>",
    "back\\slash",
    "-rf",
    ".hidden/.x",
    "..a/b..",
    "ctl\u{1}\u{7f}",
    "new\nline",
    "tilde~#?&=;:@$,[]{}|^`*()",
    "_highwater.not-ours",
];

#[test]
fn a_folder_goes_to_a_bucket_and_comes_back() {
    let (_home, from) = folder();
    fill(&from, 300);
    for key in ODD {
        from.put(key, key.as_bytes());
    }
    let long = "x".repeat(255);
    from.put(&format!("{long}/{long}/{long}"), "long");
    let bucket = Side::bucket();
    let outcome = sync(&from, &bucket, &[]).exits(0);
    assert_eq!(number(&outcome, "copied"), 300 + ODD.len() as u64 + 1);
    assert_equal(&from, &bucket);
    let (_other, back) = folder();
    sync(&bucket, &back, &[]).exits(0);
    assert_equal(&bucket, &back);
    // Nothing has changed in either.
    for (source, target) in [(&from, &bucket), (&bucket, &back)] {
        let puts = |side: &Side| match side {
            Side::Bucket(server, _) => server.faults().count(|seen| seen.method == "PUT"),
            _ => 0,
        };
        let before = puts(target);
        let again = sync(source, target, &[]).exits(0);
        assert_eq!(number(&again, "copied"), 0);
        assert_eq!(number(&again, "unchanged"), number(&outcome, "copied"));
        assert_eq!(puts(target), before);
    }
}

#[test]
fn one_bucket_goes_to_another_with_other_keys() {
    let from = Side::bucket_of("first-key", "canary-first-secret");
    let to = Side::bucket_of("second-key", "canary-second-secret");
    fill(&from, 200);
    for key in ODD.iter().chain(&["a//b", "/lead", "trail/", "trail//"]) {
        from.put(key, key.as_bytes());
    }
    from.server()
        .describe("things", "a.b", "text/plain", &[("owner", "me")]);
    let outcome = sync(&from, &to, &[]).exits(0);
    assert_eq!(number(&outcome, "copied_by_store"), 0);
    assert_equal(&from, &to);
    let (content_type, metadata) = to.server().description("things", "a.b");
    assert_eq!(content_type.as_deref(), Some("text/plain"));
    assert_eq!(metadata.get("owner").map(String::as_str), Some("me"));
    let again = sync(&from, &to, &[]).exits(0);
    assert_eq!(number(&again, "copied"), 0);
    let said = outcome.said();
    assert!(!said.contains("canary"), "{said}");
}

/// Tagged objects, small and in parts, and many without tags.
fn tagged() -> Side {
    let from = Side::bucket();
    fill(&from, 30);
    from.put("small", "x");
    from.put("large", noise(1, 12 << 20));
    for key in ["small", "large"] {
        let tags = [("a b", "c&d=e"), ("empty", "")];
        from.server().tag("things", &from.full(key), &tags);
    }
    from
}

fn tags(side: &Side, key: &str) -> Vec<(String, String)> {
    side.server().tags("things", &side.full(key))
}

fn asked_for_tags(side: &Side) -> usize {
    let faults = side.server().faults();
    faults.count(|seen| seen.method == "GET" && seen.query.starts_with("tagging"))
}

#[test]
fn tags_are_carried_when_asked() {
    let from = tagged();
    let in_parts = ["--multipart-from", "5MiB", "--memory", "160MiB"];
    let without = Side::bucket();
    sync(&from, &without, &in_parts).exits(0);
    assert!(tags(&without, "small").is_empty() && tags(&without, "large").is_empty());
    assert_eq!(asked_for_tags(&from), 0);
    let to = Side::bucket();
    let outcome = sync(&from, &to, &[&in_parts[..], &["--tags"]].concat()).exits(0);
    assert_equal(&from, &to);
    for key in ["small", "large"] {
        assert_eq!(tags(&to, key), tags(&from, key), "{key}");
        assert_eq!(tags(&to, key).len(), 2);
    }
    // Only of those that have some, and of the one in parts once.
    assert_eq!(asked_for_tags(&from), 2);
    assert_eq!(outcome.report()["objects"]["requests"]["tags"], 2);
    let only = Side::bucket();
    from.server()
        .describe("things", &from.full("small"), "text/plain", &[]);
    sync(&from, &only, &["--tags", "--no-metadata"]).exits(0);
    assert_eq!(tags(&only, "small").len(), 2);
    let (content_type, _) = only.server().description("things", &only.full("small"));
    assert_eq!(content_type, None);
}

#[test]
fn a_store_that_copies_by_itself_carries_what_was_asked_for() {
    let from = tagged();
    let Side::Bucket(server, _) = &from else {
        unreachable!()
    };
    server.describe("things", &from.full("small"), "text/plain", &[("by", "me")]);
    let beside = |prefix| Side::Bucket(std::sync::Arc::clone(server), prefix);
    let to = beside("with tags/");
    let outcome = sync(&from, &to, &["--tags"]).exits(0);
    assert_eq!(number(&outcome, "copied_by_store"), 32);
    assert_eq!(tags(&to, "small"), tags(&from, "small"));
    assert_eq!(asked_for_tags(&from), 0);
    let described = |side: &Side| server.description("things", &side.full("small"));
    assert_eq!(described(&to).0.as_deref(), Some("text/plain"));
    let bare = beside("bare/");
    sync(&from, &bare, &["--no-metadata"]).exits(0);
    assert_eq!(described(&bare).0, None);
    assert!(described(&bare).1.is_empty());
}

#[test]
fn tags_that_cannot_be_kept_are_said_to_be_left_behind() {
    let from = tagged();
    let (_home, to) = folder();
    let outcome = sync(&from, &to, &["--tags"]).exits(0);
    outcome.says(&["cannot keep tags"]);
    assert_eq!(asked_for_tags(&from), 0);
    sync(&to, &Side::bucket(), &["--tags"])
        .exits(0)
        .says(&["has no tags"]);
}

/// Reads many objects of which one does not answer for some seconds.
fn with_a_straggler(more: &[&str]) -> (kit::outcome::Outcome, u64) {
    let from = Side::bucket();
    let (_home, to) = folder();
    for number in 0..400 {
        from.put(&format!("k{number:03}"), noise(number, 1_000));
    }
    let late = Rule::new("GET", &from.path("k300"), Action::Delay(LATE));
    from.server().faults().add(late.times(1));
    let outcome = sync(&from, &to, more).exits(0);
    assert_equal(&from, &to);
    let path = from.path("k300");
    let asked = from.server().faults().count(|seen| seen.path == path);
    (outcome, asked as u64)
}

const LATE: Duration = Duration::from_secs(6);

#[test]
fn what_is_late_is_asked_again_when_wanted() {
    // One request at a time: that many answers are known when the late one is sent.
    let slowest = |outcome: &kit::outcome::Outcome| {
        let report = outcome.report();
        report["objects"]["slowest"][0]["seconds"].as_f64().unwrap()
    };
    let (outcome, asked) = with_a_straggler(&["--hedge"]);
    assert_eq!(asked, 2);
    assert_eq!(number(&outcome, "hedges_won"), 1);
    // One in twenty at most, whatever the machine does meanwhile.
    assert!(number(&outcome, "hedged") <= 20);
    assert!(slowest(&outcome) < LATE.as_secs_f64());
    // The control arm: nobody asks again, and everything waits.
    let (outcome, asked) = with_a_straggler(&[]);
    assert_eq!((asked, number(&outcome, "hedged")), (1, 0));
    assert!(slowest(&outcome) >= LATE.as_secs_f64());
}

#[test]
fn parts_that_are_late_are_asked_again_when_wanted() {
    let from = Side::bucket();
    let to = Side::bucket();
    // Enough answers to know what is late.
    for number in 0..200 {
        from.put(&format!("a{number:03}"), noise(number, 1_000));
    }
    from.put("z", noise(1, 40 << 20));
    let late = Rule::new("GET", &from.path("z"), Action::Delay(LATE));
    from.server().faults().add(late.after(3).times(1));
    let more = ["--hedge", "--multipart-from", "5MiB", "--memory", "160MiB"];
    let outcome = sync(&from, &to, &more).exits(0);
    assert_equal(&from, &to);
    assert!(number(&outcome, "hedges_won") >= 1);
}

#[test]
fn a_store_copies_by_itself() {
    let from = Side::bucket();
    let Side::Bucket(server, _) = &from else {
        unreachable!()
    };
    let to = Side::Bucket(std::sync::Arc::clone(server), "copy of/");
    fill(&from, 100);
    let outcome = sync(&from, &to, &[]).exits(0);
    assert_eq!(number(&outcome, "copied_by_store"), 100);
    assert_equal(&from, &to);
    let read = |seen: &kit::s3::Seen| seen.method == "GET" && seen.path.contains("data/f");
    assert_eq!(server.faults().count(read), 0);
    from.put("f1/new", "new");
    sync(&from, &to, &["--no-server-side-copy"]).exits(0);
    assert_equal(&from, &to);
    assert_eq!(server.faults().count(read), 1);
}

#[test]
fn only_what_differs_is_copied() {
    let (_home, from) = folder();
    let to = Side::bucket();
    fill(&from, 100);
    sync(&from, &to, &[]).exits(0);
    from.put("f0/k00000", "changed");
    from.put("f9/new", "new");
    from.remove("f1/k00001");
    let outcome = sync(&from, &to, &[]).exits(0);
    assert_eq!(
        (number(&outcome, "copied"), number(&outcome, "extra")),
        (2, 1)
    );
    assert!(
        to.all().contains_key("f1/k00001"),
        "nothing is removed unasked"
    );
    // An older file of the same size in its place: only the record can tell.
    let Side::Folder(home) = &from else {
        unreachable!()
    };
    let file = home.join("f2/k00002");
    fs::write(&file, noise(999, 100)).unwrap();
    let past = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(&file).unwrap().set_modified(past).unwrap();
    let outcome = sync(&from, &to, &["--delete"]).exits(0);
    assert_eq!(
        (number(&outcome, "copied"), number(&outcome, "deleted")),
        (1, 1)
    );
    assert_equal(&from, &to);
}

#[test]
fn too_much_is_not_deleted() {
    for to in [Side::bucket(), folder().1] {
        let (_home, from) = folder();
        fill(&from, 20);
        sync(&from, &to, &[]).exits(0);
        for number in 0..3 {
            from.remove(&format!("f{number}/k{number:05}"));
        }
        from.put("f1/new", "new");
        let refused = sync(&from, &to, &["--delete"])
            .exits(1)
            .says(&["max_delete", "3 of"]);
        assert_eq!(
            (number(&refused, "deleted"), number(&refused, "copied")),
            (0, 1)
        );
        assert_eq!(to.all().len(), 21);
        let dry = sync(
            &from,
            &to,
            &["--delete", "--max-delete", "50%", "--dry-run"],
        )
        .exits(0);
        assert_eq!(number(&dry, "deleted"), 3);
        assert_eq!(to.all().len(), 21);
        sync(&from, &to, &["--delete", "--max-delete", "50%"]).exits(0);
        assert_equal(&from, &to);
    }
}

#[test]
fn a_dry_run_does_nothing() {
    let (_home, from) = folder();
    let to = Side::bucket();
    fill(&from, 50);
    let dry = sync(&from, &to, &["--dry-run"]).exits(0);
    assert_eq!(number(&dry, "copied"), 50);
    let plan = start("plan", &from, &to, &[]).wait().exits(0);
    plan.says(&["\"copied\":50", "\"planned\":{\"put\":50}"]);
    assert_eq!(to.server().faults().count(|seen| seen.method == "PUT"), 0);
}

#[test]
fn a_plan_counts_the_requests_of_a_run() {
    let from = Side::bucket();
    fill(&from, 40);
    from.put("large", noise(1, 12 << 20));
    let beside = Side::Bucket(
        match &from {
            Side::Bucket(server, _) => std::sync::Arc::clone(server),
            _ => unreachable!(),
        },
        "beside/",
    );
    // With much memory a part would be as large as the object.
    let more = ["--multipart-from", "5MiB", "--memory", "160MiB"];
    let more = [&more[..], &["--delete", "--max-delete", "100%"]].concat();
    for (to, planned) in [
        (
            Side::bucket(),
            ["delete", "get", "head", "part", "put"].as_slice(),
        ),
        (beside, &["copy", "delete"]),
        (folder().1, &["get", "head"]),
    ] {
        to.put("only/there", "goes");
        let plan = start("plan", &from, &to, &more).wait().exits(0);
        let plan: serde_json::Value = serde_json::from_str(plan.stdout.trim()).unwrap();
        let plan = &plan["objects"];
        let kinds = plan["planned"].as_object().unwrap();
        assert_eq!(kinds.keys().collect::<Vec<_>>(), planned, "{plan:#}");
        let outcome = sync(&from, &to, &more).exits(0);
        assert_equal(&from, &to);
        let requests = &outcome.report()["objects"]["requests"];
        for (kind, count) in kinds {
            assert_eq!(&requests[kind], count, "{kind} of {requests:#}");
        }
        assert_eq!(requests["list"], plan["requests"]["list"]);
    }
}

#[test]
fn neither_a_plan_nor_a_verification_removes_anything() {
    for to in [Side::bucket(), folder().1] {
        let (_home, from) = folder();
        fill(&from, 5);
        to.put("only/there", "stays");
        sync(&from, &to, &[]).exits(0);
        let before = to.all();
        let more = ["--delete", "--max-delete", "100%"];
        start("plan", &from, &to, &more).wait().exits(0);
        start("verify", &from, &to, &more).wait().exits(5);
        assert_eq!(to.all(), before);
        // The control arm: a run does remove it.
        sync(&from, &to, &more).exits(0);
        assert_equal(&from, &to);
    }
}

#[test]
fn globs_choose() {
    let (_home, from) = folder();
    let to = Side::bucket();
    for key in ["a/1.csv", "a/2.tmp", "b/3.csv", "b/deep/4.csv"] {
        from.put(key, key.as_bytes());
    }
    to.put("a/only-there.tmp", "stays");
    let globs = [
        "--include",
        "*.csv",
        "--exclude",
        "b/deep/*",
        "--delete",
        "--max-delete",
        "100%",
    ];
    sync(&from, &to, &globs).exits(0);
    let there = to.all();
    let keys: Vec<_> = there.keys().map(String::as_str).collect();
    assert_eq!(keys, ["a/1.csv", "a/only-there.tmp", "b/3.csv"]);
}

#[test]
fn keys_that_are_no_files_are_named_and_the_rest_is_copied() {
    let from = Side::bucket();
    let (home, to) = folder();
    let outside = home.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, home.path().join("things/way")).unwrap();
    to.put("there/is/a/file", "x");
    let long = "y".repeat(256);
    let wrong = [
        "a//b",
        "/lead",
        "trail/",
        "x/../../up",
        "./dot",
        "way/out",
        "nul\0",
        &long,
        "both/below",
    ];
    for key in wrong {
        from.put(key, "never");
    }
    from.put("both", "a file, and a folder");
    fill(&from, 40);
    let outcome = sync(&from, &to, &[]).exits(3);
    let report = outcome.report();
    let failures = report["objects"]["failures"].as_array().unwrap();
    let named: Vec<_> = failures
        .iter()
        .map(|one| one["key"].as_str().unwrap())
        .collect();
    // Of a key that is a file and a folder, whichever came first is there.
    for key in wrong.iter().filter(|key| **key != "both/below") {
        assert!(named.contains(key), "{key:?} is not among {named:?}");
    }
    assert_eq!(named.len(), wrong.len(), "{named:?}");
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        0,
        "written outside"
    );
    assert!(!home.path().join("up").exists());
    let there = to.all();
    assert_eq!(there.keys().filter(|key| key.starts_with('f')).count(), 40);
}

#[test]
fn links_in_a_folder_are_reported_and_not_followed() {
    let (home, from) = folder();
    fs::write(home.path().join("secret"), "canary-outside").unwrap();
    std::os::unix::fs::symlink(home.path().join("secret"), home.path().join("things/link"))
        .unwrap();
    from.put("file", "x");
    let to = Side::bucket();
    sync(&from, &to, &[]).exits(3).says(&["symbolic link"]);
    assert_eq!(to.all().into_keys().collect::<Vec<_>>(), ["file"]);
}

/// Removes whatever the source has not.
const REMOVE: [&str; 3] = ["--delete", "--max-delete", "100%"];

#[test]
fn what_a_link_has_taken_the_place_of_is_not_removed() {
    for to in [Side::bucket(), folder().1] {
        let (home, from) = folder();
        for key in ["gone", "kept", "way/below"] {
            from.put(key, key.as_bytes());
        }
        sync(&from, &to, &[]).exits(0);
        let things = home.path().join("things");
        let links = [things.join("kept"), things.join("way")];
        fs::remove_file(&links[0]).unwrap();
        fs::remove_dir_all(&links[1]).unwrap();
        for link in &links {
            std::os::unix::fs::symlink("/etc", link).unwrap();
        }
        from.remove("gone");
        let against_record = [&REMOVE[..], &["--against", "ledger"]].concat();
        for more in [REMOVE.to_vec(), against_record] {
            sync(&from, &to, &more).exits(3).says(&["symbolic link"]);
            let there: Vec<_> = to.all().into_keys().collect();
            assert_eq!(there, ["kept", "way/below"], "{more:?}");
        }
        // Without the links their keys are gone.
        for link in &links {
            fs::remove_file(link).unwrap();
        }
        sync(&from, &to, &REMOVE).exits(0);
        assert!(to.all().is_empty());
    }
}

/// The longest path, with the NUL at its end, in bytes.
const LONGEST_PATH_BYTES: usize = 4096;

#[test]
fn a_folder_that_cannot_be_read_is_named_and_the_rest_goes_on() {
    let (home, from) = folder();
    let to = Side::bucket();
    let locked = "d".repeat(250);
    for key in ["gone", "same", &format!("{locked}/below")] {
        from.put(key, key.as_bytes());
    }
    sync(&from, &to, &["--no-ledger"]).exits(0);
    from.remove("gone");
    from.put("new", "x");
    // Root may read what others may not, but no path that is longer than paths are.
    let mut deep = home.path().to_owned();
    while deep.as_os_str().len() + locked.len() < LONGEST_PATH_BYTES {
        deep.push("p".repeat(150));
    }
    fs::create_dir_all(&deep).unwrap();
    let deep = deep.join("things");
    fs::rename(home.path().join("things"), &deep).unwrap();
    let from = Side::Folder(deep);

    let more = [&REMOVE[..], &["--no-ledger"]].concat();
    let outcome = sync(&from, &to, &more).exits(3).says(&["cannot be read"]);
    let counted = ["deleted", "failed"].map(|name| number(&outcome, name));
    assert_eq!(counted, [1, 1]);
    let below = format!("{locked}/below");
    let there = || to.all().into_keys().collect::<Vec<_>>();
    assert_eq!(there(), [below.as_str(), "new", "same"]);
    // What nobody wants may be what it likes.
    let not_it = format!("{locked}/*");
    let more = [&more[..], &["--exclude", &not_it]].concat();
    sync(&from, &to, &more).exits(0);
    assert_eq!(there(), [below.as_str(), "new", "same"]);
}

/// Runs while the read of one object waits, and does something meanwhile.
fn while_it_waits(
    from: &Side,
    to: &Side,
    key: &str,
    more: &[&str],
    act: impl FnOnce(),
) -> kit::outcome::Outcome {
    let faults = from.server().faults();
    let path = from.path(key);
    faults.add(Rule::new("GET", &path, Action::Delay(Duration::from_secs(2))).times(1));
    let running = start("run", from, to, more);
    let begun = Instant::now();
    while faults.count(|seen| seen.path == path && seen.method == "GET") == 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{key} was not read"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    act();
    running.wait().cleanly()
}

#[test]
fn what_vanishes_is_no_failure() {
    let from = Side::bucket();
    let (_home, to) = folder();
    fill(&from, 30);
    from.put("gone", "soon");
    let outcome = while_it_waits(&from, &to, "gone", &[], || from.remove("gone")).exits(0);
    assert_eq!(
        (number(&outcome, "vanished"), number(&outcome, "copied")),
        (1, 30)
    );
    assert_equal(&from, &to);
}

#[test]
fn what_changes_while_it_is_read_is_read_again() {
    for to in [Side::bucket(), folder().1] {
        let from = Side::bucket();
        fill(&from, 10);
        from.put("busy", noise(1, 50_000));
        let outcome = while_it_waits(&from, &to, "busy", &[], || {
            from.put("busy", noise(2, 60_000));
        });
        assert_eq!(number(&outcome.exits(0), "copied"), 11);
        assert_equal(&from, &to);
    }
}

/// An object in parts that changes between the first part and the others.
fn changed_between_parts(blind: bool) -> (Side, Side) {
    let (from, to) = (Side::bucket(), Side::bucket());
    from.put("big", noise(1, 24 << 20));
    if blind {
        from.server().ignore_conditions();
        // The checksum of the whole would tell.
        from.server().keep_no_checksums();
    }
    let more = ["--multipart-from", "6MiB", "--memory", "160MiB"];
    // The first part is read, the others wait.
    let (faults, path) = (from.server().faults(), from.path("big"));
    let slow = Action::Delay(Duration::from_secs(2));
    faults.add(Rule::new("GET", &path, slow).after(1));
    let running = start("run", &from, &to, &more);
    let begun = Instant::now();
    while faults.count(|seen| seen.path == path && seen.method == "GET") < 2 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "no second part was read"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    from.put("big", noise(2, 24 << 20));
    faults.clear();
    running.wait().cleanly();
    (from, to)
}

#[test]
fn parts_of_two_versions_are_never_mixed() {
    let (from, to) = changed_between_parts(false);
    assert_equal(&from, &to);
    // The control arm: a server that ignores the condition mixes them.
    let (from, to) = changed_between_parts(true);
    let mixed = &to.all()["big"];
    assert_ne!(mixed, &from.all()["big"]);
    assert_ne!(mixed, &noise(1, 24 << 20));
}

#[test]
fn large_objects_go_in_parts() {
    let (_home, from) = folder();
    let (bucket, second) = (Side::bucket(), Side::bucket());
    let (_other, back) = folder();
    from.put("big/1", noise(1, 23 << 20));
    from.put("big/2", noise(2, 5 << 20));
    from.put("big/3", noise(3, (5 << 20) + 1));
    fill(&from, 50);
    let more = ["--multipart-from", "5MiB", "--memory", "160MiB"];
    sync(&from, &bucket, &more).exits(0);
    assert_equal(&from, &bucket);
    assert!(
        bucket
            .server()
            .faults()
            .count(|seen| seen.query.contains("partNumber"))
            >= 5
    );
    sync(&bucket, &second, &more).exits(0);
    assert_equal(&from, &second);
    sync(&second, &back, &more).exits(0);
    assert_equal(&from, &back);
    for (source, target) in [(&from, &bucket), (&bucket, &second), (&second, &back)] {
        let again = sync(source, target, &more).exits(0);
        assert_eq!(number(&again, "copied"), 0, "{}", target.url());
    }
}

/// Faults of every kind, many of them.
fn storm(side: &Side) {
    let faults = side.server().faults();
    faults.add(Rule::new("*", "*things*", Action::Fail503).every(5));
    faults.add(Rule::new("*", "*things*", Action::Drop).every(20));
    faults.add(Rule::new("GET", "*things/data/*", Action::Truncate).every(9));
    faults.add(Rule::new("PUT", "*things/data/f*", Action::ApplyThenDrop).every(11));
    faults.add(Rule::new("*", "*things/data/f*", Action::Fail500).every(31));
    faults.add(
        Rule::new(
            "GET",
            "*things/data/f*",
            Action::Delay(Duration::from_millis(300)),
        )
        .every(17),
    );
}

#[test]
fn a_storm_of_faults_ends_equal() {
    let (from, to) = (Side::bucket(), Side::bucket());
    fill(&from, 400);
    from.put("big", noise(9, 12 << 20));
    storm(&from);
    storm(&to);
    let outcome = sync(&from, &to, &["--multipart-from", "5MiB"]).exits(0);
    assert_equal(&from, &to);
    let retries = number(&outcome, "retries");
    assert!(retries > 50, "there was no storm: {retries}");
    // 401 objects need about 2 requests each; a storm of 30% repeats half of them.
    assert!(retries < 1_000, "{retries}");
}

#[test]
fn killed_at_any_moment_it_goes_on() {
    let kills = kit::size("HIGHWATER_OBJECT_KILLS", 6);
    let mut random = kit::Random::seeded();
    for to in [Side::bucket(), folder().1] {
        let from = Side::bucket();
        fill(&from, 1500);
        let delay = Rule::new("GET", "*data/f*", Action::Delay(Duration::from_millis(20)));
        from.server().faults().add(delay);
        let mut killed = 0;
        for _ in 0..kills {
            let running = start("run", &from, &to, &[]);
            std::thread::sleep(Duration::from_millis(200 + random.below(1500)));
            killed += u64::from(running.kill().code.is_none());
        }
        from.server().faults().clear();
        sync(&from, &to, &[]).exits(0);
        assert_equal(&from, &to);
        // What was written twice was on its way when a run was killed.
        let reads = from.server().faults();
        let reads = reads.count(|seen| seen.method == "GET" && seen.path.contains("data/f"));
        let twice = reads as u64 - 1500;
        assert!(
            twice <= killed * 256,
            "{twice} objects twice after {killed} kills"
        );
    }
}

#[test]
fn the_record_stands_for_the_target() {
    let from = Side::bucket();
    let to = Side::bucket();
    fill(&from, 120);
    let listed = || {
        to.server().faults().count(|seen| {
            seen.method == "GET"
                && seen.query.contains("prefix=data%2F&")
                && seen.query.contains("list-type")
        })
    };
    sync(&from, &to, &["--against", "ledger"]).exits(0);
    let before = listed();
    from.put("f0/k00000", "changed");
    from.remove("f1/k00001");
    let more = ["--against", "ledger", "--delete"];
    let outcome = sync(&from, &to, &more).exits(0);
    assert_eq!(
        (number(&outcome, "copied"), number(&outcome, "deleted")),
        (1, 1)
    );
    assert_equal(&from, &to);
    from.put("f1/k00001", noise(1, 1));
    let outcome = sync(&from, &to, &more).exits(0);
    assert_eq!(
        (number(&outcome, "copied"), number(&outcome, "unchanged")),
        (1, 119)
    );
    assert_equal(&from, &to);
    assert_eq!(listed(), before, "the target was listed");
}

#[test]
fn verify_and_status_tell_what_is_there() {
    let (_home, from) = folder();
    let to = Side::bucket();
    fill(&from, 20);
    sync(&from, &to, &[]).exits(0);
    start("verify", &from, &to, &[]).wait().exits(0);
    start("status", &from, &to, &[])
        .wait()
        .exits(0)
        .says(&["\"rows\":20"]);
    to.put("f0/k00000", "damaged");
    to.remove("f1/k00001");
    let found = start("verify", &from, &to, &[]).wait().exits(5);
    found.says(&[
        "{\"key\":\"f0/k00000\",\"how\":\"differs\"}",
        "{\"key\":\"f1/k00001\",\"how\":\"missing\"}",
    ]);
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let (home, from) = folder();
    from.put("x", "y");
    let to = Side::bucket();
    let nowhere = Side::Folder(home.path().join("nowhere"));
    sync(&nowhere, &to, &[])
        .exits(2)
        .says(&["nowhere", "not a folder"]);
    let inside = Side::Folder(home.path().join("things/below"));
    sync(&from, &inside, &[]).exits(2).says(&["inside"]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_object-sync"));
    command.args(["run", "s3://no-such-bucket/", &to.url()]);
    for (name, value) in [
        ("AWS_ENDPOINT", to.server().endpoint()),
        ("AWS_ACCESS_KEY_ID", kit::s3::ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", kit::s3::SECRET_KEY.to_owned()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ] {
        command.env(name, value);
    }
    let outcome = kit::lake::Running::spawn(&mut command).wait().exits(2);
    outcome.says(&["no-such-bucket", "does not exist"]);
}

#[test]
fn too_many_errors_end_the_run() {
    let from = Side::bucket();
    let (_home, to) = folder();
    for number in 0..500 {
        from.put(&format!("wrong//{number}"), "x");
    }
    fill(&from, 20);
    let outcome = sync(&from, &to, &["--max-errors", "3"]).exits(1);
    outcome.says(&["max_errors"]);
}

#[test]
fn the_example_runs() {
    let home = kit::scratch();
    for part in ["examples", "data"] {
        let copied = std::process::Command::new("cp")
            .arg("-r")
            .arg(kit::root().join(part))
            .arg(home.path())
            .status();
        assert!(copied.unwrap().success());
    }
    for _ in 0..2 {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_object-sync"));
        command
            .args(["run", "examples/object-sync.toml"])
            .current_dir(home.path());
        kit::lake::Running::spawn(&mut command).wait().exits(0);
    }
    let side = |name: &str| Side::Folder(home.path().join(name));
    assert_equal(&side("data"), &side("copy"));
}
