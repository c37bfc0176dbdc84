//! The log as plain files, read with suspicion: what `verify` checks and `prune`
//! counts. Everybody else reads the log through the kernel.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::record::CommitRecord;
use super::{APP_ID, DOMAIN, SHA256_TAG, seal, sha256_hex};
use crate::store::{Store, StoreError};

/// What is in `_delta_log`, by version.
#[derive(Debug, Clone, Default)]
pub(super) struct LogFolder {
    /// When the store last modified each entry, and its size.
    pub(super) entries: BTreeMap<u64, (DateTime<Utc>, u64)>,
    /// Checkpoints of one file: what ours are.
    pub(super) checkpoints: BTreeMap<u64, u64>,
    /// What else belongs to one version: parts of other checkpoints, checksums.
    pub(super) others: Vec<(u64, Path, u64)>,
}

impl LogFolder {
    /// Lists the log of the table at `store`.
    pub(super) async fn list(store: &Store) -> Result<Self, StoreError> {
        let mut folder = Self::default();
        let home = Path::from("_delta_log");
        let mut listing = store.objects().list(Some(&home));
        let doing = format!("list the log of {}", store.url());
        while let Some(object) = listing
            .try_next()
            .await
            .map_err(|error| StoreError::from_object_store(&error, &doing))?
        {
            // `_sidecars` and the like are not ours to understand.
            if object.location.parts().count() == 2 {
                folder.note(object);
            }
        }
        Ok(folder)
    }

    fn note(&mut self, object: ObjectMeta) {
        let name = object.location.filename().unwrap_or_default();
        let Some((digits, kind)) = name.split_once('.') else {
            return;
        };
        let version = (digits.len() == 20).then(|| digits.parse().ok()).flatten();
        let Some(version) = version else { return };
        match kind {
            "json" => {
                let entry = (object.last_modified, object.size);
                self.entries.insert(version, entry);
            }
            "checkpoint.parquet" => {
                self.checkpoints.insert(version, object.size);
            }
            _ => {
                let (path, size) = (object.location.clone(), object.size);
                if kind == "crc" || kind.starts_with("checkpoint.") {
                    self.others.push((version, path, size));
                }
            }
        }
    }
}

/// One file as an entry adds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) bytes: u64,
    pub(super) sha256: Option<String>,
}

/// What one entry says.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// SHA-256 of its bytes.
    pub(super) sha256: String,
    /// The number of our commit, where it is one of ours.
    pub(super) commit: Option<i64>,
    /// Our record, where it is one of ours.
    pub(super) record: Option<CommitRecord>,
    /// Whether its seal holds; `None` where it has none.
    pub(super) sealed: Option<bool>,
    /// Files that it adds, by path.
    pub(super) adds: Vec<(String, Added)>,
    /// Files that it removes.
    pub(super) removes: Vec<String>,
}

impl Entry {
    /// Reads the bytes of an entry, in words where that cannot be done.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let mut entry = Self {
            sha256: sha256_hex(bytes),
            commit: None,
            record: None,
            sealed: None,
            adds: Vec::new(),
            removes: Vec::new(),
        };
        for line in text.lines() {
            entry.action(serde_json::from_str(line).map_err(|error| error.to_string())?)?;
        }
        if let Some(record) = &entry.record {
            // Form 1 had no seal; all others must have one.
            let held = record.format > 1 || record.seal.is_some();
            entry.sealed = held.then(|| seal::holds(text, record));
        }
        Ok(entry)
    }

    fn action(&mut self, action: Value) -> Result<(), String> {
        let text = |value: &Value, field: &str| {
            let text = value.get(field).and_then(Value::as_str);
            text.map(str::to_owned)
                .ok_or_else(|| format!("an action without {field}"))
        };
        if let Some(txn) = action.get("txn") {
            if text(txn, "appId")? == APP_ID {
                self.commit = txn.get("version").and_then(Value::as_i64);
            }
        } else if let Some(domain) = action.get("domainMetadata") {
            if text(domain, "domain")? == DOMAIN {
                let record = text(domain, "configuration")?;
                let record = serde_json::from_str(&record).map_err(|error| error.to_string())?;
                self.record = Some(record);
            }
        } else if let Some(add) = action.get("add") {
            let sha256 = add.get("tags").and_then(|tags| tags.get(SHA256_TAG));
            let added = Added {
                bytes: add.get("size").and_then(Value::as_u64).unwrap_or_default(),
                sha256: sha256.and_then(Value::as_str).map(str::to_owned),
            };
            self.adds.push((text(add, "path")?, added));
        } else if let Some(remove) = action.get("remove") {
            self.removes.push(text(remove, "path")?);
        }
        Ok(())
    }
}

/// The bytes of one object; `None` where it is not there.
pub(super) async fn read(store: &Store, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |error: &object_store::Error| {
        StoreError::from_object_store(error, &format!("read {}", store.url_of(path)))
    };
    match store.objects().get(path).await {
        Ok(found) => {
            let bytes = found.bytes().await.map_err(|error| failed(&error))?;
            Ok(Some(bytes.into()))
        }
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// What `prune` has removed: entries below `log_starts` are gone or going, and
/// versions below `oldest_retained` may have lost files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pruned {
    /// The first entry that stays.
    pub(super) log_starts: u64,
    /// The first version whose files all stay.
    pub(super) oldest_retained: u64,
    /// The run that created the table, which the first entry said: reports of
    /// earlier runs are about an earlier table.
    #[serde(default)]
    pub(super) born: Option<Uuid>,
}

impl Pruned {
    /// Where it is kept, below the table's folder.
    pub(super) fn path() -> Path {
        Path::from("_highwater/pruned.json")
    }

    /// What the last prune said; nothing where none has been.
    pub(super) async fn read(store: &Store) -> Result<Self, StoreError> {
        let bytes = read(store, &Self::path()).await?;
        // A note that cannot be read allows nothing to be missing.
        let noted = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(noted.unwrap_or_default())
    }
}

/// The commits that loads are recorded for: `_highwater/loads/<from>`.
pub(super) async fn load_folders(store: &Store) -> Result<Vec<i64>, StoreError> {
    let home = Path::from("_highwater/loads");
    let listed = store.objects().list_with_delimiter(Some(&home)).await;
    let listed = listed.map_err(|error| {
        StoreError::from_object_store(&error, &format!("list {}", store.url_of(&home)))
    })?;
    let folders = listed.common_prefixes.iter().filter_map(Path::filename);
    Ok(folders.filter_map(|name| name.parse().ok()).collect())
}
