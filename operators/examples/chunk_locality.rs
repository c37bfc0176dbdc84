//! Cuts text files into chunks, and says how full these are, how fast that is, and how
//! many of them an edit of one paragraph makes new.
//!
//! ```text
//! cargo run --release -p highwater-operators --example chunk_locality -- \
//!     /usr/share/doc/python3.11/html/_sources
//! ```
//!
//! Tokens are estimated: a word has one for every four letters, a mark is one. Headings
//! are lines that begin with `#`, and lines above a line of `=`, `-`, `~` or `*`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use highwater_operators::transform::chunk::{
    Chunk, ChunkError, ChunkOptions, Document, Heading, TokenCounter, chunks,
};

/// Edits of each document.
const EDITS: usize = 5;

struct Estimate;

impl TokenCounter for Estimate {
    fn count(&self, text: &str) -> usize {
        let mut tokens = 0;
        let mut letters = 0_usize;
        for char in text.chars() {
            if char.is_alphanumeric() {
                letters += 1;
                continue;
            }
            tokens += letters.div_ceil(4) + usize::from(!char.is_whitespace());
            letters = 0;
        }
        tokens + letters.div_ceil(4)
    }
}

#[derive(Default)]
struct Sums {
    documents: usize,
    bytes: usize,
    chunks: usize,
    tokens: usize,
    inner: usize,
    inner_tokens: usize,
    seconds: f64,
    edits: usize,
    changed: usize,
    most: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for folder in std::env::args().skip(1) {
        find(Path::new(&folder), &mut files)?;
    }
    files.sort();
    let mut sums = Sums::default();
    let mut random = fastrand::Rng::with_seed(1);
    for file in &files {
        let Ok(text) = std::fs::read_to_string(file) else {
            continue;
        };
        measure(&text, &mut random, &mut sums)?;
    }
    let options = ChunkOptions::default();
    let full = |tokens: usize, chunks: usize| {
        100.0 * tokens as f64 / (chunks.max(1) * options.max_tokens) as f64
    };
    println!(
        "{} documents, {} bytes, {} chunks",
        sums.documents, sums.bytes, sums.chunks
    );
    println!(
        "{:.1}% full; {:.1}% where more of the section follows",
        full(sums.tokens, sums.chunks),
        full(sums.inner_tokens, sums.inner)
    );
    println!("{:.1} MB/s", sums.bytes as f64 / sums.seconds / 1e6);
    println!(
        "{} edits of one paragraph: {:.2} new chunks each, {} at most",
        sums.edits,
        sums.changed as f64 / sums.edits.max(1) as f64,
        sums.most
    );
    Ok(())
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => find(&entry.path(), files)?,
            false
                if entry
                    .path()
                    .extension()
                    .is_some_and(|end| end == "txt" || end == "md") =>
            {
                files.push(entry.path());
            }
            false => {}
        }
    }
    Ok(())
}

fn measure(text: &str, random: &mut fastrand::Rng, sums: &mut Sums) -> Result<(), ChunkError> {
    let options = ChunkOptions::default();
    let began = Instant::now();
    let before = headings(text);
    let cut = cut(text, &before, &options)?;
    sums.seconds += began.elapsed().as_secs_f64();
    sums.documents += 1;
    sums.bytes += text.len();
    sums.chunks += cut.len();
    for (number, chunk) in cut.iter().enumerate() {
        sums.tokens += chunk.tokens;
        // A chunk that begins without overlap begins a section.
        if cut
            .get(number + 1)
            .is_some_and(|next| next.start_byte < chunk.end_byte)
        {
            sums.inner += 1;
            sums.inner_tokens += chunk.tokens;
        }
    }
    let old: HashSet<_> = cut.iter().map(|chunk| chunk.id).collect();
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    for _ in 0..EDITS {
        let Some(edited) = edit(&paragraphs, random) else {
            continue;
        };
        let after = headings(&edited);
        let new = self::cut(&edited, &after, &options)?;
        let changed = new.iter().filter(|chunk| !old.contains(&chunk.id)).count();
        sums.edits += 1;
        sums.changed += changed;
        sums.most = sums.most.max(changed);
    }
    Ok(())
}

fn cut<'a>(
    text: &'a str,
    headings: &'a [Heading],
    options: &ChunkOptions,
) -> Result<Vec<Chunk<'a>>, ChunkError> {
    let document = Document {
        key: "document",
        text,
        headings,
        page_starts: &[],
    };
    chunks(&document, &Estimate, options)
}

/// A paragraph of some length with a sentence more, a word less, or other words.
fn edit(paragraphs: &[&str], random: &mut fastrand::Rng) -> Option<String> {
    let long = |paragraph: &&str| paragraph.split_whitespace().count() > 8;
    let at: Vec<usize> = (0..paragraphs.len())
        .filter(|at| long(&paragraphs[*at]))
        .collect();
    let at = *random.choice(&at)?;
    let words: Vec<&str> = paragraphs[at]
        .split_inclusive(char::is_whitespace)
        .collect();
    let place = random.usize(0..words.len());
    let (first, rest) = words.split_at(place);
    let (first, rest) = (first.concat(), rest.concat());
    let paragraph = match random.u32(0..3) {
        0 => format!("{first} edited {rest}"),
        1 => [first, words[place + 1..].concat()].concat(),
        _ => format!("{} This sentence was added by somebody.", paragraphs[at]),
    };
    let mut edited = paragraphs.to_vec();
    edited[at] = &paragraph;
    Some(edited.join("\n\n"))
}

fn headings(text: &str) -> Vec<Heading> {
    let mut headings: Vec<Heading> = Vec::new();
    let mut above: Option<(usize, &str)> = None;
    let mut start_byte = 0;
    for line in text.split_inclusive('\n') {
        let end_byte = start_byte + line.len();
        let rule = line.trim_end();
        let mark = rule.chars().next().filter(|mark| "=-~*".contains(*mark));
        let is_rule =
            mark.is_some_and(|mark| rule.len() >= 3 && rule.chars().all(|char| char == mark));
        let level = match mark {
            Some('=') => 1,
            Some('-') => 2,
            _ => 3,
        };
        match above {
            Some((start, title))
                if is_rule
                    && !title.trim().is_empty()
                    && !title.starts_with(['=', '-', '~', '*', ' ', '|', '+']) =>
            {
                headings.push(Heading {
                    start_byte: start,
                    end_byte,
                    level,
                });
            }
            _ if line.starts_with('#') => headings.push(Heading {
                start_byte,
                end_byte,
                level: 1,
            }),
            _ => {}
        }
        above = Some((start_byte, line));
        start_byte = end_byte;
    }
    headings
}
