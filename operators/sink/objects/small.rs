//! An object copied as a whole, or by the store itself.

use highwater::ledger::hex;
use highwater::store::objects::{Describe, Listed, ObjectError, Written};
use sha2::{Digest as _, Sha256};

use super::copier::{CopyObjects, Lane, Trouble};
use crate::ingest::objects::Record;

impl CopyObjects {
    /// Copies an object whose bytes are paid for.
    pub(super) async fn copy_whole(&self, lane: &Lane, object: &Listed) -> Result<Record, Trouble> {
        if self.copies_by_store(object)
            && let Some(home) = self.source.home()
        {
            let copy = || self.target.copy_from(home, object, &object.key, self.carry);
            // What is missing or changed then is the source's.
            let written = self.write(lane, 0, copy).await.map_err(Trouble::Source)?;
            self.tally.copied_by_store.add(1);
            return Ok(record(object, &written, None));
        }
        let body = self.read(lane, object, None).await?;
        let bytes = body.bytes;
        // Buckets check what arrives against it.
        let sha256: Option<[u8; 32]> = self.target.home().map(|_| Sha256::digest(&bytes).into());
        let told = Describe {
            attributes: self.carry.of(body.attributes),
            modified_ns: Some(object.modified_ns),
            sha256,
        };
        let put = || self.target.put(&object.key, bytes.clone(), &told);
        let written = self.write(lane, bytes.len() as u64, put).await;
        let sent = sha256.map(|sha256| format!("sha256:{}", hex(&sha256)));
        let digest = sent.or(body.digest);
        Ok(record(object, &written.map_err(Trouble::Target)?, digest))
    }

    /// Sends a request that writes, as often as it takes.
    async fn write<F: Future<Output = Result<Written, ObjectError>>>(
        &self,
        lane: &Lane,
        bytes: u64,
        mut request: impl FnMut() -> F,
    ) -> Result<Written, ObjectError> {
        let once = || {
            let request = request();
            async {
                let mut slot = lane.write.slot().await;
                let written = request.await;
                match &written {
                    Ok(_) => slot.moved(bytes),
                    Err(error) if error.is_overload() => slot.overloaded(),
                    Err(_) => {}
                }
                written
            }
        };
        self.write_retries.ask(once, |_| ()).await
    }
}

/// What is recorded of a copy.
pub(super) fn record(object: &Listed, written: &Written, digest: Option<String>) -> Record {
    Record {
        key: object.key.clone(),
        bytes: object.bytes,
        source_version: object.version(),
        target_version: written.version(),
        digest,
    }
}
