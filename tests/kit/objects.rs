//! Places of objects, and the binary that makes them equal.
//!
//! What a place holds is read without the code under test: files by `std::fs`,
//! buckets out of the server's own memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::clouds::{Cloud, Whose};
use super::lake::Running;
use super::outcome::Outcome;
use super::s3::S3Server;

/// The bucket of every server here.
pub(crate) const BUCKET: &str = "things";

/// Content by key.
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

/// A place of objects.
#[derive(Clone)]
pub(crate) enum Side {
    /// A folder.
    Folder(PathBuf),
    /// A prefix (with its `/`, or empty) in the bucket of a server.
    Bucket(Arc<S3Server>, &'static str),
    /// A packed table in a folder.
    Packed(PathBuf),
    /// A prefix (with its `/`) in the bucket of an emulator.
    Cloud(&'static Cloud, &'static str),
}

impl Side {
    /// A new server with an empty bucket.
    pub(crate) fn bucket() -> Self {
        Self::Bucket(Arc::new(S3Server::start(BUCKET)), "data/")
    }

    /// The same with keys of its own.
    pub(crate) fn bucket_of(access: &'static str, secret: &'static str) -> Self {
        Self::Bucket(Arc::new(S3Server::start_as(BUCKET, access, secret)), "")
    }

    /// An empty prefix of a service that is not S3's.
    pub(crate) fn cloud(whose: Whose, prefix: &'static str) -> Self {
        Self::Cloud(Cloud::of(whose), prefix)
    }

    /// The server.
    pub(crate) fn server(&self) -> &S3Server {
        match self {
            Self::Bucket(server, _) => server,
            Self::Folder(folder) | Self::Packed(folder) => {
                panic!("{} is not in S3", folder.display())
            }
            Self::Cloud(cloud, _) => panic!("{} is not S3", cloud.endpoint()),
        }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Folder(folder) => format!("file:{}", folder.display()),
            Self::Packed(folder) => format!("pack:file:{}", folder.display()),
            Self::Bucket(_, prefix) => format!("s3://{BUCKET}/{prefix}"),
            Self::Cloud(cloud, prefix) => format!("{}://{BUCKET}/{prefix}", cloud.scheme()),
        }
    }

    /// The full key.
    pub(crate) fn full(&self, key: &str) -> String {
        match self {
            Self::Folder(_) | Self::Packed(_) => key.to_owned(),
            Self::Bucket(_, prefix) | Self::Cloud(_, prefix) => format!("{prefix}{key}"),
        }
    }

    /// The path of a request for a key, as the server records it.
    pub(crate) fn path(&self, key: &str) -> String {
        format!("{BUCKET}/{}", self.full(key))
    }

    /// Writes an object as somebody else would.
    pub(crate) fn put(&self, key: &str, content: impl Into<Vec<u8>>) {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(key);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content.into()).unwrap();
            }
            Self::Bucket(server, _) => server.put(BUCKET, &self.full(key), content.into()),
            Self::Cloud(cloud, _) => cloud.put(&self.full(key), &content.into()),
            Self::Packed(_) => panic!("nobody else writes packed tables"),
        }
    }

    /// Removes an object as somebody else would.
    pub(crate) fn remove(&self, key: &str) {
        match self {
            Self::Folder(folder) => fs::remove_file(folder.join(key)).unwrap(),
            Self::Bucket(server, _) => server.remove(BUCKET, &self.full(key)),
            Self::Cloud(cloud, _) => cloud.remove(&self.full(key)),
            Self::Packed(_) => panic!("nobody else writes packed tables"),
        }
    }

    /// Everything in it but our own records.
    pub(crate) fn all(&self) -> Contents {
        let mut found = Contents::new();
        match self {
            Self::Folder(folder) => walk(folder, folder, &mut found),
            Self::Packed(_) => panic!("the oracle reads packed tables"),
            Self::Cloud(cloud, prefix) => found = cloud.contents(prefix),
            Self::Bucket(server, prefix) => {
                for full in server.keys(BUCKET, prefix) {
                    let content = server.object(BUCKET, &full).unwrap();
                    found.insert(full[prefix.len()..].to_owned(), content.to_vec());
                }
            }
        }
        found.retain(|key, _| !key.starts_with("_highwater/"));
        // What a killed run was writing.
        found.retain(|key, _| !key.contains(".highwater-unfinished-"));
        found
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let server = match self {
            Self::Bucket(server, _) => server,
            Self::Cloud(cloud, _) => return cloud.options(),
            Self::Folder(_) | Self::Packed(_) => return Vec::new(),
        };
        let (access, secret) = server.keys_of_user();
        vec![
            ("ENDPOINT", server.endpoint()),
            ("REGION", "us-east-1".to_owned()),
            ("ACCESS_KEY_ID", access.to_owned()),
            ("SECRET_ACCESS_KEY", secret.to_owned()),
            ("ALLOW_HTTP", "true".to_owned()),
        ]
    }
}

fn walk(folder: &Path, home: &Path, found: &mut Contents) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => walk(&path, home, found),
            kind if kind.is_file() => {
                let key = path
                    .strip_prefix(home)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.insert(key, fs::read(path).unwrap());
            }
            _ => {}
        }
    }
}

/// Fails the test unless both places hold the same objects, to the byte.
#[track_caller]
pub(crate) fn assert_equal(source: &Side, target: &Side) {
    let (source, target) = (source.all(), target.all());
    let missing: Vec<_> = source
        .keys()
        .filter(|key| !target.contains_key(*key))
        .collect();
    let extra: Vec<_> = target
        .keys()
        .filter(|key| !source.contains_key(*key))
        .collect();
    let other: Vec<_> = source
        .iter()
        .filter(|(key, content)| target.get(*key).is_some_and(|there| there != *content))
        .map(|(key, _)| key)
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty() && other.is_empty(),
        "missing {missing:?}, extra {extra:?}, different {other:?}"
    );
}

/// Starts a verb of the binary on two places.
pub(crate) fn start(verb: &str, source: &Side, target: &Side, more: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_object-sync"));
    command.args([verb, &source.url(), &target.url(), "--json"]);
    if verb == "run" {
        command.args(["--progress", "never"]);
    }
    for (prefix, side, flag) in [
        ("SRC", source, "--source-env"),
        ("DST", target, "--target-env"),
    ] {
        let options = side.options();
        if !options.is_empty() {
            command.args([flag, prefix]);
        }
        for (name, value) in options {
            command.env(format!("{prefix}_{name}"), value);
        }
        if let Side::Cloud(cloud, _) = side {
            command.envs(cloud.environment());
        }
    }
    if verb != "status" && !more.contains(&"--workers") {
        command.args(["--workers", "2"]);
    }
    Running::spawn(command.args(more))
}

/// Makes the target equal to the source.
#[track_caller]
pub(crate) fn sync(source: &Side, target: &Side, more: &[&str]) -> Outcome {
    start("run", source, target, more).wait().cleanly()
}

/// A number of the report on objects.
#[track_caller]
pub(crate) fn number(outcome: &Outcome, name: &str) -> u64 {
    let report = outcome.report();
    let found = report["objects"][name].as_u64();
    found.unwrap_or_else(|| panic!("no number {name:?} in {report:#}"))
}

/// Bytes that are never twice the same.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}
