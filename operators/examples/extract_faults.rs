//! A child that reads documents and misbehaves at some of them, for the tests of
//! what its parent does then; and a process that tries the network with and without
//! being confined.
#![allow(clippy::panic)] // It is what this program is for.

use std::io::Write;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use highwater_operators::transform::extract::{
    self, Document, ExtractOptions, Extractors, Limits, PdfBackend, Reason, confine,
};

// That of `paper-index`: it must fail as asked where the memory is capped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [extract::ARGUMENT, ..] => extract::serve_with(misbehave),
        ["parent"] => parent(),
        ["connect", address] => connect(address),
        ["confine-and-connect", address] => {
            if let Err(error) = confine(&Limits::default(), PdfBackend::Embedded) {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
            connect(address)
        }
        _ => ExitCode::FAILURE,
    }
}

/// A parent that is busy with a document that never ends, until it is killed.
fn parent() -> ExitCode {
    let read = || -> Result<(), Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let extractors = Extractors::new(std::env::current_exe()?, ExtractOptions::default());
        runtime.block_on(extractors.extract("a.txt", b"sleep"))??;
        Ok(())
    };
    match read() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints what the system says to a connection and to another program.
fn connect(address: &str) -> ExitCode {
    let said = TcpStream::connect(address)
        .err()
        .and_then(|error| error.raw_os_error());
    let program = std::process::Command::new("true")
        .status()
        .err()
        .and_then(|e| e.raw_os_error());
    println!("{} {}", said.unwrap_or(0), program.unwrap_or(0));
    ExitCode::SUCCESS
}

/// Does what the document says.
fn misbehave(
    key: &str,
    contents: &[u8],
    limits: &Limits,
    pdf: PdfBackend,
) -> Result<Document, Reason> {
    match contents {
        b"abort" => std::process::abort(),
        b"exit" => std::process::exit(3),
        b"panic" => std::panic::panic_any("asked to"),
        b"work" => work(limits.time * 100),
        b"sleep" => std::thread::sleep(Duration::from_secs(3600)),
        b"work one second" => work(Duration::from_secs(1)),
        b"allocate" => allocate(limits.memory_bytes as usize * 2),
        b"allocate half" => allocate(limits.memory_bytes as usize / 2),
        b"recurse" => {
            recurse(0);
        }
        b"babble" => {
            for _ in 0..10_000 {
                let _ = writeln!(std::io::stderr(), "something that nobody needs to know");
            }
        }
        b"write" => {
            // The system ends who writes a file.
            let _ = std::fs::write(std::env::temp_dir().join("highwater-extract-faults"), "x");
        }
        _ => {}
    }
    extract::read(key, contents, limits, pdf)
}

fn work(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn allocate(bytes: usize) {
    let mut pieces = Vec::new();
    for _ in 0..bytes >> 20 {
        pieces.push(vec![1_u8; 1 << 20]);
    }
    std::hint::black_box(&pieces);
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let page = std::hint::black_box([depth; 512]);
    std::hint::black_box(recurse(depth + 1) + page[0])
}
