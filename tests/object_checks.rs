//! `object-sync`: what arrives is what was sent, or it is asked for again.

use crate::kit;

use kit::objects::{Side, assert_equal, noise, number, sync};
use kit::s3::{Action, Rule};

/// How a source lets a reader check what arrives.
#[derive(Clone, Copy, PartialEq)]
enum Keeps {
    /// A checksum beside the content.
    Checksum,
    /// An MD5 as its tag.
    Md5,
    /// Neither: an object that was put in parts, in a store of the old days.
    Nothing,
}

const SIZE: usize = 12 << 20;

const IN_PARTS: [&str; 4] = ["--multipart-from", "5MiB", "--memory", "160MiB"];

/// A bucket with one object, and a rule that turns a bit of its first answers.
fn bad_line(keeps: Keeps, times: u64) -> Side {
    let from = Side::bucket();
    if keeps != Keeps::Checksum {
        from.server().keep_no_checksums();
    }
    if keeps == Keeps::Nothing {
        // Parts make a tag that is no MD5.
        let home = kit::scratch();
        let folder = Side::Folder(home.path().to_owned());
        folder.put("one", noise(5, SIZE));
        sync(&folder, &from, &IN_PARTS).exits(0);
    } else {
        from.put("one", noise(5, SIZE));
    }
    let rule = Rule::new("GET", &from.path("one"), Action::Flip);
    from.server().faults().add(rule.times(times));
    from
}

/// A bucket and a folder.
fn targets() -> (tempfile::TempDir, [Side; 2]) {
    let home = kit::scratch();
    let folder = Side::Folder(home.path().join("to"));
    (home, [Side::bucket(), folder])
}

fn reads_of_one(from: &Side) -> usize {
    let path = from.path("one");
    let faults = from.server().faults();
    faults.count(|seen| seen.path == path && seen.method == "GET")
}

#[test]
fn a_bit_that_turned_on_the_way_is_found() {
    for keeps in [Keeps::Checksum, Keeps::Md5] {
        let (_home, targets) = targets();
        for to in targets {
            let from = bad_line(keeps, 1);
            sync(&from, &to, &[]).exits(0);
            assert_equal(&from, &to);
            assert_eq!(reads_of_one(&from), 2);
        }
    }
    // The control arm: where nothing tells, it passes.
    let (from, to) = (bad_line(Keeps::Nothing, 1), Side::bucket());
    sync(&from, &to, &[]).exits(0);
    assert_ne!(from.all(), to.all());
}

#[test]
fn a_bit_that_turned_in_a_part_is_found() {
    let (_home, targets) = targets();
    for to in targets {
        let from = bad_line(Keeps::Checksum, 1);
        sync(&from, &to, &IN_PARTS).exits(0);
        assert_equal(&from, &to);
        assert!(reads_of_one(&from) >= 4, "all parts are read again");
    }
    // The control arm: where nothing tells, it passes.
    let (from, to) = (bad_line(Keeps::Md5, 1), Side::bucket());
    sync(&from, &to, &IN_PARTS).exits(0);
    assert_ne!(from.all(), to.all());
}

#[test]
fn what_never_arrives_whole_is_a_failure() {
    for more in [&[][..], &IN_PARTS] {
        let (from, to) = (bad_line(Keeps::Checksum, u64::MAX), Side::bucket());
        from.put("two", "whole");
        let told = sync(&from, &to, more).exits(3);
        assert_eq!(number(&told, "copied"), 1);
        assert!(told.said().contains("checksum"), "{}", told.said());
        assert!(!to.all().contains_key("one"));
    }
}
