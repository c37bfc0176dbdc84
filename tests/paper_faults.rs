//! `paper-index` under kill -9 and with readers that misbehave: what is committed is
//! whole, and in the end the lake is what a run from nothing makes.
//!
//! `HIGHWATER_KILLS` (25) sets the size, `HIGHWATER_SEED` the instants.

use crate::kit;

use std::time::{Duration, Instant};

use kit::lake::Running;
use kit::papers::{Papers, document, number, paragraph, start};
use kit::{Random, size};
use serde_json::json;

#[test]
fn kill_again_and_again_while_documents_change() {
    let mut random = Random::seeded();
    // Small epochs and files: there is always something half done.
    let papers = Papers::new()
        .with("epoch.bytes = \"64KiB\"")
        .with("epoch.seconds = 1")
        .of_papers("keep_vectors_every = \"1s\"");
    let mut texts: Vec<String> = (0..40).map(|_| document(&mut random, 4)).collect();
    let put = |n: usize, text: &str| {
        papers
            .docs()
            .put(&format!("d{}/n{n:03}.md", n % 4), text.as_bytes())
    };
    for (n, text) in texts.iter().enumerate() {
        put(n, text);
    }
    let (mut killed, mut embedded) = (0, 0);
    let kills = size("HIGHWATER_KILLS", 25);
    for _ in 0..kills * 4 {
        let mut run = papers.start();
        std::thread::sleep(Duration::from_millis(100 + random.below(2_500)));
        if run.is_running() {
            let outcome = run.kill().cleanly();
            killed += u64::from(outcome.code.is_none());
        } else {
            embedded += number(&run.wait().exits(0), "embedded");
        }
        // Whatever is published is whole.
        if papers.table().join("_delta_log").exists() {
            papers.holds();
        }
        if killed >= kills {
            break;
        }
        let n = random.below(texts.len() as u64) as usize;
        let old = texts[n].split("\n\n").nth(1).unwrap().to_owned();
        texts[n] = texts[n].replace(&old, &paragraph(&mut random));
        put(n, &texts[n]);
    }
    assert!(killed > 0, "no run was at work when it was to be killed");
    println!("killed {killed} times; runs that ended embedded {embedded}");
    papers.run().exits(0);
    let again = papers.run().exits(0);
    assert_eq!(
        (number(&again, "embedded"), number(&again, "changed")),
        (0, 0)
    );
    start("run", &papers.config_into("fresh"), &[])
        .wait()
        .exits(0);
    papers.holds_as(&json!({"other": papers.home().join("fresh/docs")}));
}

/// What was embedded before a kill is not embedded again, although no document of it was
/// published: vectors are kept as they are made.
#[test]
fn a_killed_first_run_has_kept_its_vectors() {
    let papers = many().of_papers("keep_vectors_every = \"1s\"");
    let mut run = papers.start();
    let began = Instant::now();
    // Two commits: the table itself, and the first vectors.
    let second = papers
        .home()
        .join("lake/_highwater/vectors/_delta_log/00000000000000000001.json");
    while run.is_running() && !second.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    killed_before_its_end(run);
    let kept = reused_by_the_next(&papers);

    // The control arm: vectors that are kept once an hour are lost.
    let papers = many().of_papers("keep_vectors_every = \"1h\"");
    let run = papers.start();
    std::thread::sleep(took);
    killed_before_its_end(run);
    let lost = reused_by_the_next(&papers);
    // Some texts come twice in any run.
    let fresh = start("run", &papers.config_into("fresh"), &[]).wait();
    let twice = number(&fresh.exits(0), "reused");
    assert_eq!(lost, twice);
    assert!(kept > twice, "{kept} of {twice}");
}

/// Documents for some seconds.
fn many() -> Papers {
    let mut random = Random::seeded();
    let papers = Papers::new();
    for n in 0..150 {
        papers
            .docs()
            .put(&format!("n{n:04}.md"), document(&mut random, 8).as_bytes());
    }
    papers
}

#[track_caller]
fn killed_before_its_end(mut run: Running) {
    assert!(run.is_running(), "the run was over before it was killed");
    assert_eq!(run.kill().cleanly().code, None);
}

/// How many vectors a run found that it did not make.
#[track_caller]
fn reused_by_the_next(papers: &Papers) -> u64 {
    let rest = papers.run().exits(0);
    let of = |name: &str| number(&rest, name);
    let known = of("embedded") + of("reused") + of("kept");
    assert_eq!(known, of("chunks"), "{rest}");
    papers.holds();
    of("reused")
}

#[test]
fn two_runs_at_once_leave_one_whole_table() {
    let mut random = Random::seeded();
    let papers = Papers::new();
    for n in 0..30 {
        papers
            .docs()
            .put(&format!("n{n:03}.md"), document(&mut random, 4).as_bytes());
    }
    let (first, second) = (papers.start(), papers.start());
    let codes = [first.wait().cleanly().code, second.wait().cleanly().code];
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(
        codes.iter().all(|code| matches!(code, Some(0 | 4 | 11))),
        "{codes:?}"
    );
    papers.run().exits(0);
    start("run", &papers.config_into("fresh"), &[])
        .wait()
        .exits(0);
    papers.holds_as(&json!({"other": papers.home().join("fresh/docs")}));
}

/// A run that stands still after it has compared, while another one publishes, adds
/// nothing to what it has not seen.
#[test]
fn what_was_compared_is_what_is_published_on() {
    let mut random = Random::seeded();
    let mut overtaken = 0;
    for pause in 1..=8 {
        let papers = Papers::new();
        for n in 0..12 {
            let text = document(&mut random, 3);
            papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
        }
        let first = papers.start();
        std::thread::sleep(Duration::from_millis(pause * 60));
        first.signal("STOP");
        let second = papers.run().cleanly();
        first.signal("CONT");
        let first = first.wait().cleanly();
        for code in [first.code, second.code] {
            assert!(matches!(code, Some(0 | 4 | 11)), "{first} {second}");
        }
        overtaken += u64::from(first.code == Some(11));
        papers.run().exits(0);
        papers.holds();
    }
    println!("overtaken {overtaken} of 8 times");
}

#[test]
fn a_run_that_is_asked_to_end_ends_soon_and_goes_on_later() {
    let mut random = Random::seeded();
    let papers = Papers::new();
    for n in 0..200 {
        papers
            .docs()
            .put(&format!("n{n:03}.md"), document(&mut random, 6).as_bytes());
    }
    let mut run = papers.start();
    let log = papers.table().join("_delta_log/00000000000000000000.json");
    while run.is_running() && !log.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(1000));
    assert!(run.is_running());
    run.signal("TERM");
    let asked_to_end = Instant::now();
    let ended = run.wait().exits(130);
    assert!(asked_to_end.elapsed() < Duration::from_secs(18), "{ended}");
    // What was compared and not published is not told as done.
    let held = papers.holds()["documents"].as_object().unwrap().len() as u64;
    assert!(held < 200, "{held}");
    assert_eq!(number(&ended, "new"), held);
    let rest = papers.run().exits(0);
    assert_eq!(number(&rest, "new"), 200 - held);
    papers.holds();
}

/// What a document takes is estimated by its size. Those that hold next to nothing do not
/// wait for memory that others of their kind have paid for and never use.
#[test]
fn large_documents_with_little_text_do_not_wait_for_each_other() {
    let papers = Papers::new().with("memory = \"512MiB\"");
    let filler = "no text ".repeat(250_000);
    for n in 0..12 {
        let page = format!("<html><!-- {filler} --><body><p>Page {n} is short.</p></body></html>");
        papers.docs().put(&format!("n{n:02}.html"), page.as_bytes());
    }
    let run = papers.run().exits(0);
    assert_eq!((number(&run, "new"), number(&run, "chunks")), (12, 12));
    papers.holds();
}

#[test]
fn memory_stays_within_its_limit() {
    let mut random = Random::seeded();
    let papers = Papers::new().with("memory = \"512MiB\"");
    for n in 0..80 {
        papers
            .docs()
            .put(&format!("n{n:03}.md"), document(&mut random, 6).as_bytes());
    }
    // One text of 4 MB among them, of which a million characters are taken.
    let long: String = (0..12_000)
        .map(|_| paragraph(&mut random) + "\n\n")
        .collect();
    let cut = &long[..long.len().min(1_200_000)];
    papers.docs().put("long.txt", cut.as_bytes());
    let report = papers.run().exits(0).report();
    let (peak, limit) = (
        report["peak_rss_bytes"].as_u64(),
        report["memory_limit_bytes"].as_u64(),
    );
    assert!(peak < limit, "{peak:?} of {limit:?}");
    assert_eq!(report["documents"][0]["truncated"].as_u64(), Some(1));
}
