//! The commit log of one dataset: a Delta table, and the load log beside it.
//!
//! A [`Ledger`] is the handle of one table's folder. It reads the Delta log
//! through `delta_kernel`, and publishes files *and* the source's new watermark
//! in one log entry (C1 to C3, C7). A [`LoadLog`] records the finished epochs of
//! a load that is not complete, so that it can be continued; nobody reads it but
//! the next run.
//!
//! | file | what it holds |
//! |---|---|
//! | `table` | [`Ledger`]: open, commit, and the loop that rebases |
//! | `view` | what the log says at one version |
//! | `change` | [`Change`]: what a commit publishes, and its checks |
//! | `committer` | serialises an entry once and puts it once |
//! | `rewrite` | [`Rewriter`]: the same rows in other files, of any Delta table |
//! | `record` | [`CommitRecord`]: the watermark inside the entry |
//! | `seal` | a hash of the entry inside itself |
//! | `checkpoint` | what all entries up to a version amount to, now and then |
//! | `past` | [`PastTable`]: a table as it was |
//! | `entries` | the log as plain files, read with suspicion |
//! | `verify` | damage, found |
//! | `prune` | the one place that deletes (C4) |
//! | `schema` | Arrow schemas as Delta schemas |
//! | `files` | the data files that the log references |
//! | `stats` | Delta statistics out of Parquet metadata |
//! | `small_file` | [`SmallFile`]: a data file that is put together in memory |
//! | `executor` | runs the kernel's I/O on the caller's runtime |
//! | `load_log`, `load_state` | [`LoadLog`] and what its entries add up to |
//! | `lake_file` | [`LakeFile`]: a data file, read by ranges |
//! | `lake_runs` | run reports and quarantined rows |
//! | `error` | [`LedgerError`] |

mod change;
mod checkpoint;
mod committer;
mod data_file;
mod entries;
mod error;
mod executor;
mod files;
mod lake_file;
mod lake_runs;
mod load_log;
mod load_state;
mod past;
pub mod prune;
mod record;
mod rewrite;
mod schema;
mod seal;
mod small_file;
mod stats;
mod table;
#[cfg(test)]
mod tests;
pub mod verify;
mod view;

pub use change::{Change, ChangeKind};
pub use data_file::DataFile;
pub use error::LedgerError;
pub use files::LoggedFile;
pub use lake_file::LakeFile;
pub use lake_runs::{PastRun, PastRunTable, put_quarantine, put_report, read_reports};
pub use load_log::{LoadError, LoadLog};
pub use load_state::{Attempt, Begin, Epoch, LoadState, Writer};
pub use past::{At, PastTable};
pub use record::{CommitRecord, RewriteKind};
pub use rewrite::{Rewrite, Rewriter, Rewritten};
pub use small_file::{SmallFile, SmallFileError};
pub use stats::delta_stats;
pub use table::Ledger;
pub use view::Head;

/// The application id of our transactions in the Delta log.
pub const APP_ID: &str = "highwater";

/// The domain of the Delta log that holds the watermark.
pub const DOMAIN: &str = "highwater.watermark";

/// The tag of an `add` action that holds the file's SHA-256 (C7).
pub const SHA256_TAG: &str = "highwater.sha256";

/// The tag of an `add` action that says in which order a compaction put the rows.
pub const ORDER_TAG: &str = "highwater.order";

/// Where the kernel believes the table to be: it works on a store that is rooted
/// at the table's folder, so that no real address, key or local path ever passes
/// through its URL handling.
const ROOT: &str = "highwater:///";

/// Now, by this machine's clock, RFC 3339 in UTC; for people, never compared (C5).
fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// SHA-256 in lower-case hexadecimal.
fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex(&sha2::Sha256::digest(bytes))
}

/// Bytes in lower-case hexadecimal, as the log has hashes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let text = String::with_capacity(bytes.len() * 2);
    bytes.iter().fold(text, |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
