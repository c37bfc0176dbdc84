//! Objects as rows to come: read now, or left as they are where they cannot be.

use std::sync::Arc;
use std::time::Instant;

use highwater::budget::Permit;
use highwater::ledger::hex;
use highwater::store::objects::{Carry, Listed, ObjectError, ObjectErrorKind};
use highwater::telemetry::objects::ObjectTally;
use sha2::{Digest as _, Sha256};

use super::rows::{PackedRow, attributes_text};
use crate::sink::objects::BodyReader;

/// How often an object is begun anew that changes while it is read.
const MOST_CHANGES: u32 = 5;

/// A row and what pays for it.
pub(super) struct Paid {
    pub(super) row: PackedRow,
    pub(super) permit: Permit,
}

/// How objects are read.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) reader: Arc<BodyReader>,
    pub(super) tally: Arc<ObjectTally>,
    pub(super) carry: Carry,
}

impl Reading {
    /// The row of an object; where it cannot be read, `old` stays in its place.
    pub(super) async fn row(
        self,
        object: Listed,
        permit: Permit,
        old: Option<PackedRow>,
    ) -> Option<Paid> {
        let (began, tally) = (Instant::now(), &self.tally);
        match read(&self.reader, &object, permit.bytes(), self.carry).await {
            Ok(row) => {
                tally.copied(&row.object.key, row.object.bytes, began.elapsed());
                Some(Paid { row, permit })
            }
            Err(error) if error.kind == ObjectErrorKind::Vanished => {
                tally.vanished.add(1);
                None
            }
            Err(error) => {
                tally.failed(&object.key, &error.message);
                if error.ends_the_run() {
                    tally.end(error.into());
                }
                old.map(|row| Paid { row, permit })
            }
        }
    }
}

/// An object as it is now.
async fn read(
    reader: &BodyReader,
    listed: &Listed,
    paid_bytes: u64,
    carry: Carry,
) -> Result<PackedRow, ObjectError> {
    let mut object = listed.clone();
    for _ in 0..MOST_CHANGES {
        match reader.read(&object, None).await {
            Ok(body) => {
                return Ok(PackedRow {
                    sha256: hex(&Sha256::digest(&body.bytes)),
                    attributes: attributes_text(&carry.of(body.attributes)),
                    content: body.bytes,
                    object,
                });
            }
            Err(error) if error.kind == ObjectErrorKind::Changed => {
                object = reader.look_again(&object.key).await?;
                if object.bytes > paid_bytes {
                    let what = "it has grown while it was read; run again";
                    return Err(ObjectError::new(ObjectErrorKind::Failed, &object.key, what));
                }
            }
            Err(error) => return Err(error),
        }
    }
    let what = "it changed each time while it was read; run again when it rests";
    Err(ObjectError::new(ObjectErrorKind::Failed, &object.key, what))
}
