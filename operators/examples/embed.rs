//! Embeds a list of texts on several threads, each with scratch memory of its
//! own, and says what it took.
//!
//! `cargo run --release --example embed -- MODEL_DIR TEXTS.json [THREADS] [VECTORS]`
//!
//! `TEXTS.json` is a list of strings. Vectors go to the file `VECTORS` as
//! little-endian `f32`s. Prints one JSON object.

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use highwater_operators::embed::{Embedded, Embedder, MiniLm, ModelFiles};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = |name: &str| {
        arguments
            .next()
            .ok_or_else(|| anyhow::anyhow!("say {name}: MODEL_DIR TEXTS [THREADS] [VECTORS]"))
    };
    let directory = PathBuf::from(next("MODEL_DIR")?);
    let texts: Vec<String> = serde_json::from_slice(&std::fs::read(next("TEXTS")?)?)?;
    let threads = next("THREADS")
        .ok()
        .and_then(|count| count.to_str()?.parse().ok())
        .unwrap_or(1);
    let vectors = next("VECTORS").ok();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();

    let start = Instant::now();
    let model = MiniLm::open(&ModelFiles::find(Some(&directory))?)?;
    let open = start.elapsed();
    // Every thread takes every n-th text: as many long ones as the others.
    let start = Instant::now();
    let shares: Vec<Embedded> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let share: Vec<&str> = texts
                    .iter()
                    .copied()
                    .skip(worker)
                    .step_by(threads)
                    .collect();
                let model = &model;
                scope.spawn(move || model.embed(&share))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))?
                    .map_err(Into::into)
            })
            .collect::<anyhow::Result<_>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let sum = |part: fn(&Embedded) -> usize| shares.iter().map(part).sum::<usize>();
    if let Some(path) = vectors {
        let dimensions = model.dimensions();
        let rows = (0..texts.len()).flat_map(|at| {
            &shares[at % threads].vectors[at / threads * dimensions..][..dimensions]
        });
        std::fs::write(
            path,
            rows.flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
        )?;
    }
    let report = serde_json::json!({
        "model": model.model(),
        "texts": texts.len(),
        "tokens": sum(|share| share.tokens),
        "padding": sum(|share| share.padding),
        "truncated": sum(|share| share.truncated),
        "open_seconds": open.as_secs_f64(),
        "seconds": seconds,
        "scratch_bytes": model.scratch_bytes(),
    });
    println!("{report}");
    Ok(())
}
