//! `object-sync` and Azure, `object-sync` and Google: what folders and S3 promise,
//! they promise too.
//!
//! Azurite speaks Azure's own interface. Google's is that of fake-gcs-server, its XML
//! interface translated by our gate: see `tests/clouds/gateway.py`.

use crate::kit;

use std::collections::BTreeMap;
use std::fs;

use bytes::Bytes;
use futures::TryStreamExt as _;
use highwater::store::objects::{
    Describe, KeyRange, Listed, ObjectErrorKind, Objects, open_objects,
};
use kit::clouds::{BOTH, Cloud, Whose};
use kit::objects::{BUCKET, Side, assert_equal, noise, number, start, sync};
use serde_json::json;

/// In parts from a size on that a test can afford.
const IN_PARTS: [&str; 4] = ["--multipart-from", "5MiB", "--memory", "160MiB"];

/// Keys that somebody would get wrong, and that every place here can hold.
const ODD: &[&str] = &[
    "a.b",
    "a/b",
    "a!",
    "a0",
    "a#folder/x",
    "a#folder/y",
    "a b/c  d",
    " both ends ",
    "plus+and%20percent%",
    "%2e%2e/%2f",
    "ümläut/日本語/🦀",
    "quote'\"<&>",
    "-rf",
    ".hidden/.x",
    "tilde~#?&=;:@$,[]{}|^`*()",
    "_highwater.not-ours",
];

/// Keys that buckets can hold and folders cannot.
const ODDER: &[&str] = &["a//b", "/lead", "trail/", "trail//"];

fn folder() -> (tempfile::TempDir, Side) {
    let home = kit::scratch();
    let side = Side::Folder(home.path().join("things"));
    fs::create_dir_all(home.path().join("things")).unwrap();
    (home, side)
}

fn fill(side: &Side, count: u64) {
    for number in 0..count {
        let bytes = [0, 1, 100, 4_096, 70_000][(number % 5) as usize];
        let key = format!("f{}/k{number:05}", number % 7);
        side.put(&key, noise(number, bytes));
    }
}

fn there_and_back(whose: Whose) {
    let (_home, from) = folder();
    fill(&from, 60);
    for key in ODD {
        from.put(key, key.as_bytes());
    }
    from.put("large", noise(1, 12 << 20));
    from.put("empty", "");
    let to = Side::cloud(whose, "there and back/");
    let cloud = Cloud::of(whose);
    let told = sync(&from, &to, &IN_PARTS).exits(0);
    let all = 60 + ODD.len() as u64 + 2;
    assert_eq!(number(&told, "copied"), all, "{}", told.said());
    // By the service's own client.
    assert_equal(&from, &to);
    let parts = match whose {
        Whose::Azure => cloud.count("PUT", "comp=block&"),
        Whose::Google => cloud.count("PUT", "partNumber="),
    };
    assert!(parts >= 2, "{parts} parts");
    let (_other, back) = folder();
    sync(&to, &back, &IN_PARTS).exits(0);
    assert_equal(&to, &back);
    // Nothing has changed in either.
    let puts = cloud.count("PUT", "");
    for (source, target) in [(&from, &to), (&to, &back)] {
        let again = sync(source, target, &IN_PARTS).exits(0);
        assert_eq!(number(&again, "copied"), 0, "{}", target.url());
        assert_eq!(number(&again, "unchanged"), all);
    }
    assert_eq!(
        cloud.count("PUT", ""),
        puts,
        "the record, too, is as it was"
    );
    // One is other, some are gone, one is new.
    from.put("a.b", "changed");
    let gone = ["a0", "a!", "-rf"];
    for key in gone {
        from.remove(key);
    }
    from.put("new", "new");
    let plan = start("plan", &from, &to, &["--delete"]).wait().exits(0);
    // Each takes a request of its own.
    plan.says(&["\"delete\":3"]);
    for (source, target) in [(&from, &to), (&to, &back)] {
        let again = sync(source, target, &["--delete"]).exits(0);
        assert_eq!(number(&again, "copied"), 2, "{}", again.said());
        let deleted = number(&again, "deleted");
        assert_eq!(deleted, gone.len() as u64, "{}", again.said());
        assert_equal(source, target);
        if let Side::Cloud(..) = target {
            let asked = &again.report()["objects"]["requests"]["delete"];
            assert_eq!(*asked, json!(deleted));
        }
    }
}

#[test]
fn a_folder_goes_to_azure_and_comes_back() {
    there_and_back(Whose::Azure);
}

#[test]
fn a_folder_goes_to_google_and_comes_back() {
    there_and_back(Whose::Google);
}

#[test]
fn from_s3_to_azure_to_google_and_back() {
    let s3 = Side::bucket();
    fill(&s3, 30);
    for key in ODD.iter().chain(ODDER) {
        s3.put(key, key.as_bytes());
    }
    s3.put("large", noise(1, 12 << 20));
    for key in ["a.b", "large"] {
        let (kind, metadata) = ("text/x-test", [("owner", "me")]);
        s3.server().describe(BUCKET, &s3.full(key), kind, &metadata);
    }
    let azure = Side::cloud(Whose::Azure, "chain/");
    let google = Side::cloud(Whose::Google, "chain/");
    let back = Side::bucket();
    for (source, target) in [(&s3, &azure), (&azure, &google), (&google, &back)] {
        sync(source, target, &IN_PARTS).exits(0);
        assert_equal(source, target);
        let again = sync(source, target, &IN_PARTS).exits(0);
        assert_eq!(number(&again, "copied"), 0, "{}", target.url());
    }
    assert_equal(&s3, &back);
    let owner = BTreeMap::from([("owner".to_owned(), "me".to_owned())]);
    for whose in BOTH {
        let seen = Cloud::of(whose).seen("chain/");
        for key in ["a.b", "large"] {
            assert_eq!(seen[key].kind, "text/x-test", "{whose:?} {key}");
            assert_eq!(seen[key].metadata, owner, "{whose:?} {key}");
        }
        assert!(seen["a/b"].metadata.is_empty());
        assert!(seen["a/b"].md5.is_some(), "{whose:?} keeps it by itself");
    }
    for key in ["a.b", "large"] {
        let (kind, metadata) = back.server().description(BUCKET, &back.full(key));
        assert_eq!(kind.as_deref(), Some("text/x-test"), "{key}");
        assert_eq!(metadata.get("owner").map(String::as_str), Some("me"));
    }
}

#[test]
fn what_cannot_be_carried_is_refused_by_name() {
    let from = Side::bucket();
    fill(&from, 10);
    let both = ["a/../b", "./x", "new\nline"];
    let azures = ["back\\slash", "ends.", "inner./x", "ctl\u{1}", "named"];
    for key in both.iter().chain(&azures) {
        from.put(key, "x");
    }
    let hyphen = [("my-name", "x")];
    from.server()
        .describe(BUCKET, &from.full("named"), "text/plain", &hyphen);
    let azure = Side::cloud(Whose::Azure, "refused/");
    let told = sync(&from, &azure, &[]).exits(3);
    assert_eq!(number(&told, "copied"), 10, "{}", told.said());
    assert_eq!(number(&told, "failed"), (both.len() + azures.len()) as u64);
    let said = told.said();
    for key in ["a/../b", "ends.", "back", "my-name", "--no-metadata"] {
        assert!(said.contains(key), "{key} is not named: {said}");
    }
    let told = sync(&from, &azure, &["--no-metadata"]).exits(3);
    assert_eq!(number(&told, "copied"), 1, "{}", told.said());
    let google = Side::cloud(Whose::Google, "refused/");
    let told = sync(&from, &google, &[]).exits(3);
    assert_eq!(number(&told, "copied"), 15, "{}", told.said());
    assert_eq!(number(&told, "failed"), both.len() as u64);
    let seen = Cloud::of(Whose::Google).seen("refused/");
    assert_eq!(seen["named"].metadata["my-name"], "x");
    // A folder takes neither.
    let (_home, back) = folder();
    sync(&google, &back, &[]).exits(0);
    let odd = Cloud::of(Whose::Google);
    odd.put("refused/b//c", b"x");
    odd.put("refused/folder/", b"");
    let told = sync(&google, &back, &[]).exits(3);
    assert_eq!(number(&told, "failed"), 2, "{}", told.said());
}

/// The services' own words for a part of the object `large`.
fn part_of(whose: Whose) -> &'static str {
    match whose {
        Whose::Azure => "large?comp=block&",
        Whose::Google => "large?partNumber=",
    }
}

#[test]
fn what_fails_for_a_moment_is_asked_again() {
    for whose in BOTH {
        let (_home, from) = folder();
        fill(&from, 20);
        from.put("large", noise(1, 17 << 20));
        let (to, cloud) = (Side::cloud(whose, "storm/"), Cloud::of(whose));
        cloud.fail("PUT", part_of(whose), json!(503), 3);
        cloud.fail("PUT", part_of(whose), json!("cut"), 1);
        cloud.fail("PUT", "storm/f", json!(503), 5);
        cloud.fail("PUT", "storm/f", json!("cut"), 2);
        // The commit of an upload, and a listing.
        let complete = match whose {
            Whose::Azure => ("PUT", "large?comp=blocklist", "comp=list"),
            Whose::Google => ("POST", "large?uploadId", "list-type=2"),
        };
        cloud.fail(complete.0, complete.1, json!(500), 1);
        cloud.fail("GET", complete.2, json!(503), 3);
        let told = sync(&from, &to, &IN_PARTS).exits(0);
        assert_equal(&from, &to);
        assert!(number(&told, "retries") >= 10, "{}", told.said());
        // And read.
        let (_other, back) = folder();
        cloud.fail("GET", "storm/f", json!(503), 5);
        cloud.fail("GET", "storm/large", json!("cut"), 2);
        cloud.fail("GET", complete.2, json!("cut"), 2);
        sync(&to, &back, &IN_PARTS).exits(0);
        assert_equal(&to, &back);
    }
}

#[test]
fn an_answer_that_was_lost_does_not_lose_the_object() {
    // The upload was completed, and nobody heard of it.
    let (_home, from) = folder();
    from.put("large", noise(1, 12 << 20));
    let to = Side::cloud(Whose::Azure, "lost/");
    let cloud = Cloud::of(Whose::Azure);
    cloud.fail("PUT", "lost/large?comp=blocklist", json!("lose"), 1);
    sync(&from, &to, &IN_PARTS).exits(0);
    assert_equal(&from, &to);
    assert_eq!(cloud.count("PUT", "lost/large?comp=blocklist"), 2);
}

#[test]
fn a_page_that_failed_is_no_end_of_a_listing() {
    let (_home, from) = folder();
    for number in 0..300 {
        from.put(&format!("k{number:05}"), "x");
    }
    let (to, cloud) = (
        Side::cloud(Whose::Google, "pages/"),
        Cloud::of(Whose::Google),
    );
    sync(&from, &to, &[]).exits(0);
    assert_equal(&from, &to);
    let (_other, back) = folder();
    // Of what was not listed nothing may be removed.
    for number in 0..300 {
        back.put(&format!("k{number:05}"), "x");
    }
    cloud.fail("GET", "continuation-token", json!(503), 2);
    cloud.fail("GET", "continuation-token", json!("cut"), 1);
    sync(&to, &back, &["--delete"]).exits(0);
    assert_equal(&to, &back);
    // Google's tells fifty at a time here.
    assert!(cloud.count("GET", "continuation-token") >= 8);
}

#[test]
fn a_bit_that_turned_on_the_way_is_found() {
    for whose in BOTH {
        let (to, cloud) = (Side::cloud(whose, "bits/"), Cloud::of(whose));
        cloud.put("bits/one", &noise(5, 100_000));
        let (_home, back) = folder();
        cloud.fail("GET", "bits/one", json!("flip"), 1);
        sync(&to, &back, &[]).exits(0);
        assert_equal(&to, &back);
        let (_home, back) = folder();
        cloud.fail("GET", "bits/one", json!("flip"), 100);
        let told = sync(&to, &back, &[]).exits(3);
        assert_eq!(number(&told, "copied"), 0);
        assert!(back.all().is_empty());
    }
    // Google has a checksum of what was put in parts, too.
    let google = Side::cloud(Whose::Google, "bits in parts/");
    let (_home, from) = folder();
    from.put("large", noise(1, 12 << 20));
    sync(&from, &google, &IN_PARTS).exits(0);
    let cloud = Cloud::of(Whose::Google);
    cloud.fail("GET", "parts/large", json!("flip"), 1);
    let (_home, back) = folder();
    sync(&google, &back, &IN_PARTS).exits(0);
    assert_equal(&google, &back);
    // The control arm: Azure has none, and it passes.
    let azure = Side::cloud(Whose::Azure, "bits in parts/");
    sync(&from, &azure, &IN_PARTS).exits(0);
    let cloud = Cloud::of(Whose::Azure);
    cloud.fail("GET", "parts/large", json!("flip"), 1);
    let (_home, back) = folder();
    sync(&azure, &back, &IN_PARTS).exits(0);
    assert_ne!(from.all(), back.all(), "the test proves nothing");
}

#[test]
fn killed_in_the_middle_it_goes_on() {
    for whose in BOTH {
        let (_home, from) = folder();
        fill(&from, 300);
        from.put("large", noise(1, 17 << 20));
        let (to, cloud) = (Side::cloud(whose, "killed/"), Cloud::of(whose));
        let more = [&IN_PARTS[..], &["--bandwidth", "12MB"]].concat();
        let running = start("run", &from, &to, &more);
        while cloud.count("PUT", "killed/f") < 100 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(running.kill().code.is_none(), "it was over before");
        sync(&from, &to, &IN_PARTS).exits(0);
        assert_equal(&from, &to);
        let puts = cloud.count("PUT", "killed/f");
        assert!(puts <= 300 + 256, "{puts} objects were put");
    }
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let (home, from) = folder();
    from.put("x", "y");
    let run = |target: &str, variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_object-sync"));
        command.args(["run", &from.url(), target, "--target-env", "DST"]);
        for whose in BOTH {
            command.envs(Cloud::of(whose).environment());
        }
        command.envs(variables.iter().copied());
        kit::lake::Running::spawn(&mut command).wait()
    };
    let emulator = ("DST_USE_EMULATOR", "true");
    run("az://no-such-place/x", &[emulator])
        .exits(2)
        .says(&["no-such-place", "the container does not exist"]);
    let wrong = ("DST_ACCOUNT_KEY", "d3Jvbmc=");
    run(&format!("az://{BUCKET}/x"), &[emulator, wrong])
        .exits(1)
        .says(&["permission"]);
    let endpoint = Cloud::of(Whose::Google).endpoint();
    let google = [
        ("DST_ENDPOINT", endpoint.as_str()),
        ("DST_ALLOW_HTTP", "true"),
        ("DST_BEARER_TOKEN", "right"),
    ];
    run("gs://no-such-place/x", &google)
        .exits(2)
        .says(&["no-such-place", "the bucket does not exist"]);
    let wrong = [&google[..2], &[("DST_BEARER_TOKEN", "wrong")]].concat();
    run(&format!("gs://{BUCKET}/x"), &wrong)
        .exits(1)
        .says(&["permission"]);
    run(&format!("gs://{BUCKET}/x"), &[("DST_ENDPONT", "x")])
        .exits(2)
        .says(&["endpoint"]);
    drop(home);
}

/// The place as the library opens it, on the gate's own address.
fn opened(whose: Whose, prefix: &str) -> std::sync::Arc<dyn Objects> {
    let cloud = Cloud::of(whose);
    let options = match whose {
        Whose::Azure => vec![
            ("endpoint", format!("{}/devstoreaccount1", cloud.endpoint())),
            ("account_name", "devstoreaccount1".to_owned()),
            ("account_key", Cloud::key().to_owned()),
        ],
        Whose::Google => vec![
            ("endpoint", cloud.endpoint()),
            ("skip_signature", "true".to_owned()),
        ],
    };
    let options = options
        .into_iter()
        .chain([("allow_http", "true".to_owned())]);
    let options = options.map(|(name, value)| (name.to_owned(), value));
    let url = format!("{}://{BUCKET}/{prefix}", cloud.scheme());
    open_objects(&url, &options.collect()).unwrap()
}

async fn keys(objects: &dyn Objects, range: KeyRange) -> Vec<String> {
    let pages: Vec<_> = objects.pages(range).try_collect().await.unwrap();
    let all = pages.into_iter().flat_map(|page| page.objects);
    all.map(|object| object.key).collect()
}

/// What every place of objects must do, whoever keeps it.
async fn behaves(objects: &dyn Objects) {
    let told = Describe::default();
    for key in ["a#b/1", "a#b/2", "a/", "a/x", "b"] {
        objects.put(key, Bytes::from("old"), &told).await.unwrap();
    }
    // Ranges begin exactly where they should.
    let all = keys(objects, KeyRange::all()).await;
    assert_eq!(all, ["a#b/1", "a#b/2", "a/", "a/x", "b"]);
    for cut in ["a#b/", "a#b/1", "a/", "a0", "a~", "b"] {
        let ranges = KeyRange::cut(&[cut.to_owned()]);
        let mut both = Vec::new();
        for range in ranges {
            both.extend(keys(objects, range).await);
        }
        assert_eq!(both, all, "cut at {cut}");
    }
    let below = objects.names_below("").await.unwrap();
    assert_eq!(below, ["a#b/", "a/", "b"]);
    assert_eq!(
        objects.names_below("a#b/").await.unwrap(),
        ["a#b/1", "a#b/2"]
    );
    // What was listed and is no more is told apart from what never was.
    let old = objects.head("b").await.unwrap();
    assert_eq!(old.bytes, 3);
    objects.put("b", Bytes::from("new"), &told).await.unwrap();
    for range in [None, Some(0..2)] {
        let error = objects.get(&old, range).await.unwrap_err();
        assert_eq!(error.kind, ObjectErrorKind::Changed, "{error}");
    }
    let none = Listed {
        key: "none".to_owned(),
        ..old.clone()
    };
    let error = objects.get(&none, None).await.unwrap_err();
    // Azure's emulator compares tags before it finds that there is nothing: who hears it looks
    // again, and then it is told.
    let is_told = [ObjectErrorKind::Vanished, ObjectErrorKind::Changed].contains(&error.kind);
    assert!(is_told, "{error}");
    let error = objects.head("none").await.unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Vanished, "{error}");
    let new = objects.head("b").await.unwrap();
    let got = objects.get(&new, Some(1..3)).await.unwrap();
    let body: Vec<Bytes> = got.body.try_collect().await.unwrap();
    assert_eq!(body.concat(), b"ew");
    // Parts in any order, one of them twice; nothing is there before the end.
    let (one, two) = (noise(1, 5 << 20), noise(2, 1 << 20));
    let whole = [one.clone(), two.clone()].concat();
    let parts = objects.begin("parts", whole.len() as u64, &told).await;
    let parts = parts.unwrap();
    parts.part(1, one.len() as u64, two.into()).await.unwrap();
    for _ in 0..2 {
        parts.part(0, 0, one.clone().into()).await.unwrap();
    }
    assert!(objects.head("parts").await.is_err());
    let written = parts.complete().await.unwrap();
    let listed = objects.head("parts").await.unwrap();
    assert_eq!(listed.etag, written.etag);
    let got = objects.get(&listed, None).await.unwrap();
    let body: Vec<Bytes> = got.body.try_collect().await.unwrap();
    assert!(body.concat() == whole);
    let given_up = objects.begin("given up", 1, &told).await.unwrap();
    given_up.part(0, 0, Bytes::from("x")).await.unwrap();
    given_up.abandon().await;
    let gone = ["a/x", "b", "parts", "none"].map(str::to_owned);
    assert!(objects.delete(&gone).await.unwrap().is_empty());
    let left = keys(objects, KeyRange::all()).await;
    assert_eq!(left, ["a#b/1", "a#b/2", "a/"]);
}

#[test]
fn places_behave() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for whose in BOTH {
        let objects = opened(whose, "behaves");
        runtime.block_on(behaves(objects.as_ref()));
    }
}

#[test]
fn a_listing_of_google_begins_anywhere() {
    // Azure's does, too, but not that of its emulator.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let objects = opened(Whose::Google, "begins");
    runtime.block_on(async {
        let told = Describe::default();
        for key in ["a", "a/x", "b"] {
            objects.put(key, Bytes::from("x"), &told).await.unwrap();
        }
        for (text, next) in [("a/", Some("a/x")), ("a0", Some("b")), ("b", None)] {
            let found = objects.first_after(text).await.unwrap();
            assert_eq!(found.as_deref(), next, "after {text}");
        }
    });
}

#[test]
fn two_accounts_may_have_places_of_one_name() {
    // Else a copy from one account to another is taken for one into itself.
    let options = |account: &str| {
        let options = [("account_name", account), ("account_key", Cloud::key())];
        options
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    };
    let url = "az://backup/x";
    let open = |account| open_objects(url, &options(account)).unwrap();
    assert_eq!(open("one").service(), open("one").service());
    assert_ne!(open("one").service(), open("other").service());
}
