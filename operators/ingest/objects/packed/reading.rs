//! Objects as rows to come: read now, or left as they are where they cannot be.

use std::sync::Arc;
use std::time::Instant;

use highwater::budget::Permit;
use highwater::ledger::hex;
use highwater::store::objects::{Listed, ObjectError, ObjectErrorKind};
use sha2::{Digest as _, Sha256};

use super::rewrite::PackPlan;
use super::rows::{PackedRow, attributes_text};

/// A row and what pays for it.
pub(super) struct Paid {
    pub(super) row: PackedRow,
    pub(super) permit: Permit,
}

impl PackPlan {
    /// The row of an object. Where it cannot be read, `old` stays in its place; where it
    /// is gone, too, unless such rows go.
    pub(super) async fn row(
        self: Arc<Self>,
        object: Listed,
        permit: Permit,
        old: Option<PackedRow>,
    ) -> Option<Paid> {
        let (began, tally) = (Instant::now(), &self.tally);
        let row = match self.read(&object, permit.bytes()).await {
            Ok(row) => {
                tally.copied(&row.object.key, row.object.bytes, began.elapsed());
                Some(row)
            }
            Err(error) if error.kind == ObjectErrorKind::Vanished => {
                tally.vanished.add(1);
                old.filter(|old| self.outlives(old))
            }
            Err(error) => {
                tally.failed(&object.key, &error.message);
                if error.ends_the_run() {
                    tally.end(error.into());
                }
                old
            }
        };
        row.map(|row| Paid { row, permit })
    }

    /// Whether a row stays whose object was there when it was listed, and is gone now.
    fn outlives(&self, row: &PackedRow) -> bool {
        let key = row.object.key.as_str();
        self.tally.is_extra(key);
        if !self.delete {
            return true;
        }
        match self.let_go(key) {
            Ok(()) => {
                self.tally.deleted.add(1);
                false
            }
            Err(error) => {
                self.tally.end(error.into());
                true
            }
        }
    }

    /// An object as it is now.
    async fn read(&self, listed: &Listed, paid_bytes: u64) -> Result<PackedRow, ObjectError> {
        let mut object = listed.clone();
        let fits = |object: &Listed| object.bytes <= paid_bytes;
        let body = self.reader.read_as_it_is(&mut object, fits).await?;
        Ok(PackedRow {
            sha256: hex(&Sha256::digest(&body.bytes)),
            attributes: attributes_text(&self.carry.of(body.attributes)),
            content: body.bytes,
            object,
        })
    }
}
