//! What end-to-end tests stand on: real servers, the real binary, and an oracle
//! that shares no code with either.
//!
//! | module | what it gives |
//! |---|---|
//! | [`postgres`] | a private PostgreSQL server, one database per test |
//! | [`s3`] | an S3 server in memory, with faults |
//! | [`chroma`] | a private ChromaDB server |
//! | [`clouds`] | Azure and Google, as emulators have them |
//! | [`compact`] | tables that `deltalake` wrote, and `lake-compact` |
//! | [`embeddings`] | a service that embeds, with faults |
//! | [`gate`] | a line to [`chroma`] that holds a request |
//! | [`lake`] | a configuration, the binary, its exit code and report |
//! | [`load_log`] | what a load has recorded |
//! | [`objects`] | places of objects, and `object-sync` |
//! | [`oracle`] | ROWS=: the source and the lake hold the same rows |
//! | [`papers`] | documents, and `paper-index` |
//! | [`session`] | a connection that holds transactions open |
//! | [`shop`] | tables to load |

#![allow(dead_code)] // Not every tool is used today.

pub(crate) mod chroma;
pub(crate) mod clouds;
pub(crate) mod compact;
pub(crate) mod embeddings;
pub(crate) mod gate;
pub(crate) mod lake;
pub(crate) mod load_log;
pub(crate) mod network;
pub(crate) mod objects;
pub(crate) mod oracle;
pub(crate) mod outcome;
pub(crate) mod papers;
pub(crate) mod place;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod s3;
pub(crate) mod session;
pub(crate) mod shop;
pub(crate) mod team;

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A new empty folder under the build's own; removed when dropped.
pub(crate) fn scratch() -> tempfile::TempDir {
    let parent = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&parent).expect("the build's folder for temporary files");
    tempfile::Builder::new()
        .prefix("test-")
        .tempdir_in(parent)
        .expect("a temporary folder")
}

/// A number from the environment, for tests that come in sizes.
pub(crate) fn size(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}

/// Seeded pseudo-random numbers (SplitMix64): a failing run can be repeated.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by `HIGHWATER_SEED`, else by a constant; prints the seed, which a
    /// failing test shows.
    pub(crate) fn seeded() -> Self {
        let seed = size("HIGHWATER_SEED", 20_260_921);
        println!("HIGHWATER_SEED={seed}");
        Self(seed)
    }

    /// The same seed, but numbers of one's own: for threads.
    pub(crate) fn seeded_for(number: u64) -> Self {
        let Self(seed) = Self::seeded();
        Self(seed ^ (number << 32))
    }

    /// The next number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}
