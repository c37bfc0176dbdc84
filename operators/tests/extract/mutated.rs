//! PDF files that are damaged: each is read or set aside, none hangs, none ends the
//! run. Seeded; `HIGHWATER_PDFS` names a folder of files to damage besides our own,
//! `HIGHWATER_PDF_MUTANTS` says how many (200).

use std::time::Duration;

use fastrand::Rng;
use futures::StreamExt;
use highwater_operators::transform::extract::{Limits, Reason};

use super::kit;

fn originals() -> Vec<Vec<u8>> {
    let mut files = vec![kit::paper(false), kit::paper(true)];
    if let Some(folder) = std::env::var_os("HIGHWATER_PDFS") {
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
        paths.sort();
        files.extend(paths.into_iter().map(|path| std::fs::read(path).unwrap()));
    }
    files
}

/// One of the ways in which files are damaged on their way, or by who means harm.
fn mutate(random: &mut Rng, file: &mut Vec<u8>, other: &[u8]) {
    let at = random.usize(..file.len());
    let some = |random: &mut Rng, length: usize| random.usize(..=length.min(400));
    match random.u8(..7) {
        0 => file[at] ^= 1 << random.u8(..8),
        1 => file.truncate(at.max(10)),
        2 => {
            let end = (at + some(random, 400)).min(file.len());
            file.drain(at..end);
        }
        3 => {
            let from = random.usize(..other.len());
            let piece = other[from..(from + some(random, 400)).min(other.len())].to_vec();
            file.splice(at..at, piece);
        }
        4 => {
            let end = (at + some(random, 400)).min(file.len());
            file[at..end].fill(random.u8(..));
        }
        // Numbers: lengths, offsets, references.
        5 => {
            let digits: Vec<usize> = (0..file.len())
                .filter(|at| file[*at].is_ascii_digit())
                .collect();
            for _ in 0..random.usize(1..20) {
                file[digits[random.usize(..digits.len())]] = random.u8(b'0'..=b'9');
            }
        }
        _ => {
            let end = (at + some(random, 400)).min(file.len());
            let piece = file[at..end].to_vec();
            for _ in 0..random.usize(1..50) {
                file.splice(at..at, piece.iter().copied());
            }
        }
    }
}

#[tokio::test]
async fn mutants_are_read_or_set_aside() {
    let count = std::env::var("HIGHWATER_PDF_MUTANTS").map_or(200, |count| count.parse().unwrap());
    let originals = originals();
    let limits = Limits {
        time: Duration::from_secs(20),
        ..kit::limits()
    };
    let extractors = kit::extractors(limits);
    let reasons = futures::stream::iter(0..count)
        .map(|seed| {
            let mut random = Rng::with_seed(seed);
            let mut file = originals[random.usize(..originals.len())].clone();
            let other = &originals[random.usize(..originals.len())];
            for _ in 0..random.usize(1..8) {
                mutate(&mut random, &mut file, other);
            }
            let extractors = &extractors;
            async move {
                (
                    seed,
                    extractors.extract("a.pdf", &file).await.unwrap().err(),
                )
            }
        })
        .buffer_unordered(4)
        .collect::<Vec<_>>()
        .await;
    let mut read = 0;
    for (seed, reason) in &reasons {
        match reason {
            None => read += 1,
            // Nothing so small may cost so much.
            Some(Reason::TooSlow { .. }) => panic!("mutant {seed} hangs"),
            Some(reason) => eprintln!("mutant {seed}: {reason}"),
        }
    }
    eprintln!("{read} of {} were read", reasons.len());
    assert_eq!(reasons.len() as u64, count);
    let sound = extractors.extract("a.pdf", &originals[0]).await.unwrap();
    assert!(sound.is_ok());
}
