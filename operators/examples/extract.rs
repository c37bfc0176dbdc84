//! Reads documents as the pipelines do, each in a child process, and prints their
//! text or what became of them.
//!
//! ```text
//! cargo run --release -p highwater-operators --example extract -- paper.pdf notes.md
//! cargo run --release -p highwater-operators --example extract -- --json --here paper.pdf
//! ```
//!
//! `--here`: in this process, without a child. `--pdftotext`: PDF by Poppler.
//! `--json`: everything that is known. `--silent`: seconds and the reason only.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use highwater_operators::transform::extract::{
    self, Document, ExtractOptions, Extractors, PdfBackend, Reason,
};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(extract::ARGUMENT) {
        return extract::serve();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (flags, paths): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    let given = |flag: &str| flags.iter().any(|given| given == flag);
    let mut options = ExtractOptions::default();
    if given("--pdftotext") {
        options.pdf = PdfBackend::Pdftotext;
    }
    let extractors = Extractors::new(std::env::current_exe()?, options.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for path in paths {
        let contents = std::fs::read(&path).with_context(|| path.clone())?;
        let start = Instant::now();
        let answer = if given("--here") {
            extract::read(&path, &contents, &options.limits, options.pdf)
        } else {
            runtime.block_on(extractors.extract(&path, &contents))?
        };
        let seconds = start.elapsed().as_secs_f64();
        if given("--silent") {
            let what = answer.map_or_else(|reason| reason.to_string(), |_| "read".to_owned());
            println!("{seconds:.4}\t{what}\t{path}");
        } else {
            print(answer, given("--json"), &path)?;
        }
    }
    Ok(())
}

fn print(answer: Result<Document, Reason>, json: bool, path: &str) -> Result<()> {
    match answer {
        Ok(document) if json => println!("{}", serde_json::to_string_pretty(&document)?),
        Ok(document) => println!("{}", document.text),
        Err(reason) => eprintln!("{path}: {reason}"),
    }
    Ok(())
}
