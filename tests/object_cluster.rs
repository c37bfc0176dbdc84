//! `object-sync` in several processes: the same objects whatever their number.

use crate::kit;

use std::fs;
use std::time::Duration;

use kit::objects::{Side, assert_equal, noise, number, start, sync};
use kit::team::{Team, hosts_file, key_file};

fn fill(side: &Side, count: u64) {
    for number in 0..count {
        let bytes = [0, 1, 100, 4_096, 70_000][(number % 5) as usize];
        side.put(
            &format!("f{}/k{number:05}", number % 11),
            noise(number, bytes),
        );
    }
}

/// A run in so many processes.
fn team(processes: usize, from: &Side, to: &Side, more: &[&str]) -> (Team, tempfile::TempDir) {
    let folder = kit::scratch();
    let hosts = hosts_file(folder.path(), processes);
    let key = key_file(folder.path(), "key");
    let (hosts, key) = (hosts.to_string_lossy(), key.to_string_lossy());
    let member = |process: usize| {
        let process = process.to_string();
        let mut flags = vec!["--process", &process, "--hosts", &hosts];
        flags.extend(["--cluster-key-file", &key, "--join-timeout", "30s"]);
        flags.extend(["--workers", "1", "--memory", "192MiB"]);
        flags.extend(more);
        start("run", from, to, &flags)
    };
    (Team::of((0..processes).map(member).collect()), folder)
}

#[test]
fn all_of_them_copy_and_one_removes() {
    let home = kit::scratch();
    let from = Side::Folder(home.path().join("from"));
    let back = Side::Folder(home.path().join("back"));
    for side in [&from, &back] {
        let Side::Folder(folder) = side else {
            unreachable!()
        };
        fs::create_dir_all(folder).unwrap();
    }
    let bucket = Side::bucket();
    fill(&from, 1500);
    fill(&bucket, 40);
    for extra in 0..30 {
        bucket.put(&format!("f{}/extra{extra}", extra % 11), "extra");
    }
    let delete = ["--delete", "--max-delete", "60%"];
    let (team, _keys) = team(3, &from, &bucket, &delete);
    let outcomes: Vec<_> = team.wait().into_iter().map(|one| one.exits(0)).collect();
    let first = &outcomes[0];
    assert_eq!(number(first, "deleted"), 30);
    assert_eq!(number(first, "source_objects"), 1500);
    assert_eq!(
        number(first, "copied") + number(first, "unchanged"),
        1500,
        "{:#}",
        first.report()
    );
    assert_equal(&from, &bucket);
    // What all of them have copied is recorded once and for all.
    let again = sync(&from, &bucket, &[]).exits(0);
    assert_eq!(number(&again, "copied"), 0);
    let (team, _keys) = self::team(2, &bucket, &back, &[]);
    for outcome in team.wait() {
        outcome.exits(0);
    }
    assert_equal(&bucket, &back);
}

#[test]
fn too_much_is_not_deleted_by_any() {
    let home = kit::scratch();
    let from = Side::Folder(home.path().join("from"));
    fill(&from, 20);
    let bucket = Side::bucket();
    fill(&bucket, 40);
    let (team, _keys) = team(2, &from, &bucket, &["--delete"]);
    let outcomes = team.wait();
    for outcome in outcomes {
        outcome.exits(1);
    }
    assert_eq!(bucket.all().len(), 40);
}

#[test]
fn one_that_is_lost_ends_the_run_and_the_next_goes_on() {
    let home = kit::scratch();
    let from = Side::Folder(home.path().join("from"));
    fill(&from, 3000);
    let bucket = Side::bucket();
    for lost in [1, 0] {
        let (mut team, _keys) = team(3, &from, &bucket, &[]);
        let before = bucket.all().len();
        while team.process(2).is_running() && bucket.all().len() <= before {
            std::thread::sleep(Duration::from_millis(2));
        }
        team.take(lost).kill();
        for outcome in team.wait_within(Duration::from_secs(15)) {
            if outcome.code != Some(0) {
                outcome.exits(4).says(&[&format!("process {lost}")]);
            }
        }
        from.put(&format!("f0/after{lost}"), "more to do");
    }
    sync(&from, &bucket, &[]).exits(0);
    assert_equal(&from, &bucket);
}
