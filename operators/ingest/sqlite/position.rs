//! What a snapshot contains, as a token that is equal only for equal contents.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater::watermark::Bound;
use rusqlite::Connection;

/// A change time younger than this may hide a second change: file systems keep
/// times in steps of up to two seconds.
const COARSEST_STEP: Duration = Duration::from_secs(2);

/// What the file system says of the database and its WAL. Nothing is opened:
/// closing a second descriptor would drop SQLite's own POSIX locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    database: Option<FileStamp>,
    wal: Option<FileStamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    file: (u64, u64),
    size: u64,
    changed: Duration,
}

impl Stamp {
    /// Of the database at `path`, now.
    pub(super) fn of(path: &Path) -> Self {
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        // An empty WAL, which even a reader leaves behind, holds nothing.
        let wal = FileStamp::of(&PathBuf::from(wal)).filter(|wal| wal.size > 0);
        Self {
            database: FileStamp::of(path),
            wal,
        }
    }

    /// Whether a later change would show in it for certain.
    fn is_settled(&self, now: Duration) -> bool {
        let settled = |stamp: &FileStamp| stamp.changed + COARSEST_STEP <= now;
        self.database.as_ref().is_some_and(settled) && self.wal.as_ref().is_none_or(settled)
    }
}

impl FileStamp {
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = path.metadata().ok()?;
        // The change time, unlike the modification time, cannot be set back.
        let seconds = u64::try_from(metadata.ctime()).ok()?;
        let nanos = u32::try_from(metadata.ctime_nsec()).ok()?;
        Some(Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            changed: Duration::new(seconds, nanos),
        })
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            file: (0, 0),
            size: metadata.len(),
            changed,
        })
    }

    fn written(&self) -> String {
        let (device, inode) = self.file;
        format!("{device}:{inode}:{}:{}", self.size, self.changed.as_nanos())
    }
}

/// The bound of the read transaction that `connection` holds. `stamp` is what
/// the file system said while it began, if it said the same before and after.
pub(super) fn bound(
    connection: &Connection,
    stamp: Option<&Stamp>,
    now: SystemTime,
) -> rusqlite::Result<Bound> {
    let pragma = |name: &str| -> rusqlite::Result<i64> {
        connection.pragma_query_value(None, name, |row| row.get(0))
    };
    let mut position = format!(
        "schema_version={} page_count={}",
        pragma("schema_version")?,
        pragma("page_count")?
    );
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some(stamp) = stamp {
        for (name, file) in [("file", &stamp.database), ("wal", &stamp.wal)] {
            let written = file
                .as_ref()
                .map_or_else(|| "none".to_owned(), FileStamp::written);
            position.push_str(&format!(" {name}={written}"));
        }
    }
    if !stamp.is_some_and(|stamp| stamp.is_settled(since_epoch)) {
        // Not to be told from its neighbours: equal to nothing but itself.
        position.push_str(&format!(" unsettled={}", uuid::Uuid::now_v7()));
    }
    let at = chrono::DateTime::<chrono::Utc>::from(now);
    Ok(Bound {
        position,
        at: at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
    })
}
