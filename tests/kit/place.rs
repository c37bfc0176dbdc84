//! Where a lake lies, and what is in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::s3::{self, S3Server};

/// The bucket that every test's server has.
pub(crate) const BUCKET: &str = "lake";

/// A local folder or a bucket.
#[derive(Clone)]
pub(crate) enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A prefix in the bucket of a server.
    Bucket(Arc<S3Server>, String),
}

impl Place {
    /// A new server with an empty bucket.
    pub(crate) fn s3() -> Self {
        Self::Bucket(Arc::new(S3Server::start(BUCKET)), "shop/lake".to_owned())
    }

    /// The server, where there is one.
    pub(crate) fn server(&self) -> &S3Server {
        match self {
            Self::Bucket(server, _) => server,
            Self::Folder(folder) => panic!("{} is not in S3", folder.display()),
        }
    }

    /// The lake's URL.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Folder(folder) => format!("file:{}", folder.display()),
            Self::Bucket(_, prefix) => format!("s3://{BUCKET}/{prefix}"),
        }
    }

    /// What a client needs to get there, as `object_store` and `deltalake` name it.
    pub(crate) fn options(&self) -> Vec<(&'static str, String)> {
        let Self::Bucket(server, _) = self else {
            return Vec::new();
        };
        vec![
            ("endpoint", server.endpoint()),
            ("region", "us-east-1".to_owned()),
            ("access_key_id", s3::ACCESS_KEY.to_owned()),
            ("secret_access_key", s3::SECRET_KEY.to_owned()),
            ("allow_http", "true".to_owned()),
        ]
    }

    /// The paths below `prefix`, relative to the lake, in order.
    pub(crate) fn list(&self, prefix: &str) -> Vec<String> {
        match self {
            Self::Folder(folder) => {
                let mut found = Vec::new();
                walk(&folder.join(prefix), folder, &mut found);
                found.sort();
                found
            }
            Self::Bucket(server, home) => {
                let keys = server.keys(BUCKET, &format!("{home}/{prefix}"));
                let relative =
                    |key: String| key.strip_prefix(&format!("{home}/")).map(str::to_owned);
                keys.into_iter().filter_map(relative).collect()
            }
        }
    }

    /// The content of one file of the lake.
    pub(crate) fn read(&self, path: &str) -> Option<Vec<u8>> {
        match self {
            Self::Folder(folder) => fs::read(folder.join(path)).ok(),
            Self::Bucket(server, home) => server
                .object(BUCKET, &format!("{home}/{path}"))
                .map(|content| content.to_vec()),
        }
    }

    /// Writes one file of the lake, as somebody else would.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder in the lake");
                fs::write(path, content).expect("a file in the lake");
            }
            Self::Bucket(server, home) => {
                server.put(BUCKET, &format!("{home}/{path}"), content.to_vec());
            }
        }
    }

    /// The JSON values in one file: a Delta entry has one a line.
    pub(crate) fn json(&self, path: &str) -> Vec<serde_json::Value> {
        let content = self
            .read(path)
            .unwrap_or_else(|| panic!("{path} is not in the lake"));
        serde_json::Deserializer::from_slice(&content)
            .into_iter()
            .map(|value| value.unwrap_or_else(|error| panic!("{path} is not JSON: {error}")))
            .collect()
    }

    /// The versions in the Delta log of one table.
    pub(crate) fn versions(&self, table: &str) -> Vec<u64> {
        let entries = self.list(&format!("{table}/_delta_log/"));
        let number = |path: String| {
            let name = path.rsplit('/').next()?.strip_suffix(".json")?.to_owned();
            name.parse().ok()
        };
        entries.into_iter().filter_map(number).collect()
    }
}

fn walk(folder: &Path, home: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, home, found);
        } else if let Ok(relative) = path.strip_prefix(home) {
            found.push(relative.to_string_lossy().into_owned());
        }
    }
}
