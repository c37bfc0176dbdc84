#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! What chunks promise, on texts of all sorts.

use std::cell::Cell;
use std::collections::HashSet;

use proptest::prelude::*;

use super::units::{Measure, units};
use super::*;

struct Words;

impl TokenCounter for Words {
    fn count(&self, text: &str) -> usize {
        text.split_whitespace().count()
    }
}

/// Every character that is not white space.
struct Letters;

impl TokenCounter for Letters {
    fn count(&self, text: &str) -> usize {
        text.chars().filter(|char| !char.is_whitespace()).count()
    }
}

/// More for the whole than for its parts.
struct Growing;

impl TokenCounter for Growing {
    fn count(&self, text: &str) -> usize {
        let words = Words.count(text);
        words + words * words / 20
    }
}

/// Counts what it is asked for.
struct Asked(Cell<usize>);

impl TokenCounter for Asked {
    fn count(&self, text: &str) -> usize {
        self.0.set(self.0.get() + text.len());
        Letters.count(text).div_ceil(4)
    }
}

fn document<'a>(text: &'a str, headings: &'a [Heading]) -> Document<'a> {
    Document {
        key: "doc",
        text,
        headings,
        page_starts: &[],
    }
}

/// Lines that begin with `#` are headings.
fn headings(text: &str) -> Vec<Heading> {
    let mut start_byte = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix('#') {
            found.push(Heading {
                start_byte,
                end_byte: start_byte + line.len(),
                level: 1 + u8::from(rest.starts_with('#')),
            });
        }
        start_byte += line.len();
    }
    found
}

fn check(text: &str, counter: &dyn TokenCounter, options: &ChunkOptions) {
    let headings = headings(text);
    let cut = chunks(&document(text, &headings), counter, options).unwrap();
    let mut covered = 0;
    let mut own = 0;
    let mut ids = HashSet::new();
    for (number, chunk) in cut.iter().enumerate() {
        assert_eq!(chunk.text, &text[chunk.start_byte..chunk.end_byte]);
        assert_eq!(chunk.text.trim(), chunk.text);
        assert!(!chunk.text.is_empty());
        assert!(chunk.start_byte <= chunk.own_start_byte);
        assert!(chunk.own_start_byte >= own && chunk.end_byte > covered);
        assert!(text[covered..chunk.own_start_byte].trim().is_empty());
        assert!(chunk.start_byte <= covered || text[covered..chunk.start_byte].trim().is_empty());
        assert_eq!(chunk.tokens, counter.count(chunk.text));
        assert!(
            chunk.tokens <= options.max_tokens,
            "{} tokens",
            chunk.tokens
        );
        assert!(chunk.text.len() <= options.max_bytes);
        assert_eq!(chunk.ordinal as usize, number);
        assert!(ids.insert(chunk.id));
        let before = cut[..number].iter().filter(|c| c.text == chunk.text);
        assert_eq!(chunk.occurrence as usize, before.count());
        // A heading with text above it begins a section.
        let above = std::iter::once(0).chain(headings.iter().map(|heading| heading.end_byte));
        let crossed = headings.iter().zip(above).find(|(heading, above)| {
            let start = heading.start_byte;
            let begins_section = !text[*above..start].trim().is_empty();
            begins_section && (chunk.start_byte + 1..chunk.end_byte).contains(&start)
        });
        assert_eq!(crossed, None);
        (covered, own) = (chunk.end_byte, chunk.own_start_byte);
    }
    assert!(text[covered..].trim().is_empty());
    assert_eq!(
        chunks(&document(text, &headings), counter, options).unwrap(),
        cut
    );
}

fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => "[a-zA-Z]{1,9} ",
        3 => "[a-z]{1,9}[.!?] ",
        2 => "[a-z]{1,5}\n",
        2 => Just("\n\n".to_owned()),
        1 => Just("\r\n \r\n".to_owned()),
        1 => "#{1,2} [a-z]{1,9}\n",
        1 => "\n#{1,2} [a-z]{1,9}\n",
        1 => "[ \t\u{3000}\u{0c}]{1,40}",
        1 => "[\u{4e00}-\u{4e40}]{1,300}",
        1 => "[a-z0-9+/]{100,900}",
        1 => "\\PC{0,20}",
        1 => Just("e\u{301}\u{302}👩‍👩‍👧‍👦".to_owned()),
    ];
    prop::collection::vec(part, 0..120).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn chunks_cover_the_text_and_keep_to_the_limits(
        text in any_text(),
        max_tokens in 8_usize..60,
        overlap in 0_usize..30,
        max_bytes in 64_usize..600,
    ) {
        let options = ChunkOptions { max_tokens, overlap_tokens: overlap.min(max_tokens / 2), max_bytes };
        for counter in [&Words as &dyn TokenCounter, &Letters, &Growing] {
            check(&text, counter, &options);
        }
    }
}

#[test]
fn monsters_are_cut() {
    let blob = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo".repeat(30_000);
    let lots = "word ".repeat(200_000);
    let dots = ". ".repeat(300_000);
    let abbreviations = "a. 1 ".repeat(200_000);
    let blanks = format!("a{}b", " ".repeat(1_000_000));
    let lines = "\n".repeat(1_000_000);
    let ideographs = "漢字".repeat(150_000);
    let brackets = "(".repeat(500_000);
    for text in [
        blob,
        lots,
        dots,
        abbreviations,
        blanks,
        lines,
        ideographs,
        brackets,
    ] {
        for counter in [&Words as &dyn TokenCounter, &Letters] {
            let options = ChunkOptions::default();
            let cut = chunks(&document(&text, &[]), counter, &options).unwrap();
            let fits = |chunk: &Chunk<'_>| chunk.text.len() <= 8192 && chunk.tokens <= 254;
            assert!(cut.iter().all(fits));
            assert!(cut.len() < text.len() / 100 + 2);
        }
    }
}

/// Whatever the shape of the text, it is counted a few times over, not once per place
/// where it might be cut.
#[test]
fn a_text_is_counted_a_few_times_at_most() {
    let mut random = fastrand::Rng::with_seed(5);
    for text in [
        prose(&mut random, 2_000).join("\n\n"),
        "word ".repeat(100_000),
        "x".repeat(300_000),
    ] {
        let counter = Asked(Cell::new(0));
        chunks(&document(&text, &[]), &counter, &ChunkOptions::default()).unwrap();
        let times = counter.0.get() as f64 / text.len() as f64;
        assert!(times < 5.0, "{times}");
    }
}

#[test]
fn a_chunk_begins_with_the_end_of_the_one_before_it() {
    let mut random = fastrand::Rng::with_seed(6);
    let text = prose(&mut random, 60).join("\n\n");
    let options = ChunkOptions::default();
    let cut = chunks(&document(&text, &[]), &Words, &options).unwrap();
    assert!(cut.len() > 5);
    for pair in cut.windows(2) {
        let overlap = &text[pair[1].start_byte..pair[1].own_start_byte];
        assert!(pair[0].text.ends_with(overlap.trim_end()));
        let tokens = Words.count(overlap);
        assert!((1..=options.overlap_tokens).contains(&tokens), "{tokens}");
    }
}

/// Paragraphs of made-up sentences.
fn prose(random: &mut fastrand::Rng, paragraphs: usize) -> Vec<String> {
    (0..paragraphs).map(|_| paragraph(random)).collect()
}

fn paragraph(random: &mut fastrand::Rng) -> String {
    let sentences: Vec<String> = (0..random.usize(1..7))
        .map(|_| {
            let words: Vec<String> = (0..random.usize(4..30))
                .map(|_| format!("w{}", random.u32(0..5000)))
                .collect();
            format!("T{}.", words.join(" "))
        })
        .collect();
    sentences.join(" ")
}

fn edited(paragraphs: &[String], random: &mut fastrand::Rng) -> Vec<String> {
    let mut edited = paragraphs.to_vec();
    let at = random.usize(0..edited.len());
    match random.u32(0..4) {
        0 => edited[at] = paragraph(random),
        1 => edited[at] = edited[at].replacen(' ', " one more ", 1),
        2 => edited.insert(at, paragraph(random)),
        _ => drop(edited.remove(at)),
    }
    edited
}

/// What people write first: fill each chunk to the brim.
fn greedy(text: &str) -> Vec<String> {
    let options = ChunkOptions::default();
    let measure = Measure {
        counter: &Words,
        options: &options,
    };
    let mut cut = Vec::new();
    let (mut start, mut end, mut tokens) = (0, 0, 0);
    for unit in units(text, 0..text.len(), &measure) {
        if tokens + unit.tokens > options.max_tokens {
            cut.push(text[start..end].trim().to_owned());
            (start, tokens) = (end, 0);
        }
        tokens += unit.tokens;
        end = unit.end_byte;
    }
    cut.push(text[start..].trim().to_owned());
    cut
}

/// The mean and the greatest number of chunks that an edit of one paragraph makes new.
fn changed_per_edit(cut: impl Fn(&str) -> Vec<String>) -> (f64, usize) {
    let mut random = fastrand::Rng::with_seed(7);
    let before = prose(&mut random, 600);
    let old: HashSet<String> = cut(&before.join("\n\n")).into_iter().collect();
    assert!(old.len() > 100);
    let counts: Vec<usize> = (0..60)
        .map(|_| {
            let after = edited(&before, &mut random).join("\n\n");
            let new = cut(&after);
            new.iter().filter(|chunk| !old.contains(*chunk)).count()
        })
        .collect();
    let sum: usize = counts.iter().sum();
    (sum as f64 / 60.0, *counts.iter().max().unwrap())
}

#[test]
fn an_edit_changes_the_chunks_around_it_alone() {
    let ours = |text: &str| {
        let cut = chunks(&document(text, &[]), &Words, &ChunkOptions::default()).unwrap();
        cut.iter().map(|chunk| chunk.text.to_owned()).collect()
    };
    let (mean, most) = changed_per_edit(ours);
    println!("changed per edit: {mean} in the mean, {most} at most");
    assert!(mean < 3.0 && most < 16, "{mean} {most}");
    // Control: what decides by how much came before shifts every cut, until one falls
    // into place by chance.
    let (control, _) = changed_per_edit(greedy);
    println!("greedy: {control}");
    assert!(control > 2.0 * mean, "{control} {mean}");
}

#[test]
fn an_edit_never_passes_a_heading() {
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..100 {
        let sections: Vec<Vec<String>> = (0..6).map(|_| prose(&mut random, 12)).collect();
        let text = |sections: &[Vec<String>]| {
            let sections = sections.iter().enumerate();
            let texts = sections.map(|(at, body)| format!("# {at}\n\n{}\n\n", body.join("\n\n")));
            texts.collect::<String>()
        };
        let before = text(&sections);
        let at = random.usize(0..sections.len());
        let mut after = sections.clone();
        after[at] = edited(&after[at], &mut random);
        let after = text(&after);
        let (old, new) = (headings(&before), headings(&after));
        let options = ChunkOptions::default();
        let old = chunks(&document(&before, &old), &Words, &options).unwrap();
        let new = chunks(&document(&after, &new), &Words, &options).unwrap();
        let others = |cut: &[Chunk<'_>]| -> Vec<(ChunkId, String)> {
            let others = cut
                .iter()
                .filter(|chunk| *chunk.heading_path != *at.to_string());
            others
                .map(|chunk| (chunk.id, chunk.text.to_owned()))
                .collect()
        };
        assert_eq!(others(&old), others(&new));
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let small = ChunkOptions {
        max_tokens: 3,
        overlap_tokens: 0,
        max_bytes: 8192,
    };
    let overlap = ChunkOptions {
        overlap_tokens: 200,
        ..ChunkOptions::default()
    };
    let refused = |options| chunks(&document("a", &[]), &Words, options).unwrap_err();
    assert!(matches!(refused(&small), ChunkError::TooSmall { .. }));
    assert!(matches!(refused(&overlap), ChunkError::Overlap { .. }));
}
