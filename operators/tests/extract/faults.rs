//! Children that crash, hang, eat memory or are refused things, by a child that
//! does what its document says (`examples/extract_faults.rs`).

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use highwater_operators::transform::extract::{
    ExtractError, ExtractOptions, Extractors, Limits, PdfBackend,
};

use super::kit;

fn brief() -> Limits {
    Limits {
        time: Duration::from_secs(2),
        memory_bytes: 64 << 20,
        ..kit::limits()
    }
}

/// What becomes of each, and that a harmless document is read after each.
async fn all(limits: Limits, cases: &[(&str, &str)]) {
    let extractors = kit::extractors(limits);
    for (contents, wanted) in cases {
        let answer = extractors
            .extract("a.txt", contents.as_bytes())
            .await
            .unwrap();
        let said = answer.map_or_else(|reason| reason.to_string(), |document| document.text);
        assert!(said.starts_with(wanted), "{contents}: {said}");
        let next = extractors.extract("a.txt", b"next").await.unwrap().unwrap();
        assert_eq!(next.text, "next");
    }
}

#[tokio::test]
async fn a_document_that_ends_the_child_is_set_aside_and_the_next_is_read() {
    all(
        Limits {
            time: Duration::from_secs(60),
            ..brief()
        },
        &[
            ("abort", "crashed: signal 6"),
            ("exit", "crashed: exit status 3"),
            ("panic", "panicked: asked to (extract_faults.rs:"),
            ("recurse", "crashed: stack overflow"),
            ("write", "crashed: signal 25"),
            ("allocate", "too much memory: 64 MiB"),
            // Control: it is the amount that counts.
            ("allocate half", "allocate half"),
            ("babble", "babble"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_document_that_takes_too_long_is_set_aside_in_time() {
    let start = Instant::now();
    all(
        brief(),
        &[("sleep", "too slow: 2 s"), ("work", "too slow: 2 s")],
    )
    .await;
    assert!(start.elapsed() < Duration::from_secs(60));
    // Control: the same work within its limit.
    let patient = Limits {
        time: Duration::from_secs(60),
        ..brief()
    };
    all(patient, &[("work one second", "work one second")]).await;
}

#[tokio::test]
async fn as_many_work_at_once_as_there_are_children() {
    let options = ExtractOptions {
        children: 3,
        limits: kit::limits(),
        ..ExtractOptions::default()
    };
    let extractors = Extractors::new(kit::program(), options);
    let one = |number: usize| {
        let extractors = &extractors;
        async move {
            let contents = format!("document {number}");
            let document = extractors
                .extract("a.txt", contents.as_bytes())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(document.text, contents);
        }
    };
    futures::future::join_all((0..50).map(one)).await;
    assert_eq!(
        kit::limits().memory_of(3, PdfBackend::Embedded),
        3 * ((256 << 20) + 2 * (8_000_000 + (1 << 20)))
    );
}

#[tokio::test]
async fn what_is_wrong_with_us_is_no_document_s_fault() {
    let options = ExtractOptions::default;
    let none = Extractors::new(PathBuf::from("/nowhere/at/all"), options());
    let error = none.extract("a.txt", b"x").await.unwrap_err();
    assert!(matches!(error, ExtractError::Spawn { .. }), "{error}");
    let other = Extractors::new(PathBuf::from("/bin/true"), options());
    let error = other.extract("a.txt", b"x").await.unwrap_err();
    assert!(matches!(error, ExtractError::Start { .. }), "{error}");
}

#[test]
fn the_network_and_other_programs_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let said = |how: &str| {
        let output = Command::new(kit::program())
            .args([how, &address])
            // As for every child: else the allocator has more than the cap already.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // EPERM, twice.
    assert_eq!(said("confine-and-connect"), "1 1");
    // Control: without being confined both are possible.
    assert_eq!(said("connect"), "0 0");
}

#[test]
fn children_end_with_a_parent_that_is_killed() {
    let mut parent = Command::new(kit::program())
        .arg("parent")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = wait_for(|| children_of(parent.id()).first().copied());
    // It is reading by now, or soon will be.
    std::thread::sleep(Duration::from_millis(300));
    assert!(runs(child));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_for(|| (!runs(child)).then_some(()));
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{parent}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let listed = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(
            listed
                .split_whitespace()
                .filter_map(|id| id.parse::<u32>().ok()),
        );
    }
    children
}

/// Whether a process is there and no zombie.
fn runs(id: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    state
        .rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
