//! `object-sync --memory 128MiB` is a promise about the whole process, whatever the sizes
//! of objects are and wherever they come from.

use crate::kit;

use std::time::Duration;

use kit::objects::{Side, assert_equal, noise, sync};
use kit::s3::{Action, Rule};

const MIB: u64 = 1 << 20;

/// The limit that is held here, and the one of the control arm.
const LIMIT: [&str; 4] = ["--memory", "128MiB", "--workers", "1"];
const MORE: [&str; 4] = ["--memory", "1GiB", "--workers", "1"];

/// Copies all of it, and says how large the process was, in MiB.
fn peak(source: &Side, target: &Side, limit: &[&str]) -> u64 {
    let outcome = sync(source, target, limit).exits(0);
    assert_equal(source, target);
    let peak = outcome.number("peak_rss_bytes") / MIB;
    println!("{} to {}: {peak} MiB", source.url(), target.url());
    peak
}

/// From a bucket to a folder, from there to a bucket, from there to another one.
fn stays_within_the_limit(from: &Side) {
    let home = tempfile::tempdir().unwrap();
    let folder = Side::Folder(home.path().join("copy"));
    let (bucket, other) = (Side::bucket(), Side::bucket_of("other", "secret"));
    for (source, target) in [(from, &folder), (&folder, &bucket), (&bucket, &other)] {
        let peak = peak(source, target, &LIMIT);
        assert!(peak <= 128, "{peak} MiB");
    }
}

#[test]
fn many_small_objects_and_some_large_ones() {
    let from = Side::bucket();
    for number in 0..2000 {
        let key = format!("m{:02}/{number}", number % 50);
        from.put(&key, noise(number, 100_000));
    }
    for number in 0..3 {
        from.put(&format!("large/{number}"), noise(number, 20 << 20));
    }
    // Long ways make many requests at once.
    let delay = Action::Delay(Duration::from_millis(30));
    let slow = Rule::new("GET", "*data/m*", delay);
    from.server().faults().add(slow);
    stays_within_the_limit(&from);
}

/// Nine of ten have 10 to 200 KB, the tenth 5 to 20 MB: no two buffers are alike, and
/// small ones and parts of large ones come and go beside each other.
#[test]
fn sizes_of_all_kinds() {
    let from = Side::bucket();
    let all = if cfg!(debug_assertions) { 300 } else { 1000 };
    for number in 0_u64..all {
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let bytes = match number % 10 {
            4 => 5_000_000 + spread % 15_000_000,
            _ => 10_000 + spread % 190_000,
        };
        let key = format!("d{:02}/{number}", number % 20);
        from.put(&key, noise(number, usize::try_from(bytes).unwrap()));
    }
    stays_within_the_limit(&from);
    // The control arm: what is not limited so is larger.
    let to = Side::bucket();
    let peak = peak(&from, &to, &MORE);
    assert!(peak > 128, "{peak} MiB: there is nothing to hold here");
}
