//! An object copied in parts, several at once.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater::store::objects::{
    BLOCK_BYTES, Checksum, Describe, Listed, ObjectError, ObjectErrorKind, Parts,
};
use tokio::task::JoinSet;

use super::copier::{CopyObjects, Trouble};
use super::small::record;
use crate::ingest::objects::Record;

/// How long giving up may take.
const ABANDON: Duration = Duration::from_secs(3);

impl CopyObjects {
    pub(super) async fn copy_large(&self, object: &Listed) -> Result<Record, Trouble> {
        let parts = self.parts_of(object).map_err(Trouble::Target)?;
        let first = match parts.as_slice() {
            [first, _, ..] => first.clone(),
            // Too small for parts: three requests where one does.
            _ => {
                let _paid = self.large.budget.take(self.part_cost(object.bytes)).await;
                return self.copy_whole(&self.large, object).await;
            }
        };
        let bytes = first.end - first.start;
        let paid = self.large.budget.take(self.part_cost(bytes)).await;
        let (checksum, body) = tokio::try_join!(
            self.checksum_of(object),
            self.read(&self.large, object, Some(first)),
        )?;
        let told = Describe {
            attributes: self.carry.of(body.attributes),
            modified_ns: Some(object.modified_ns),
            sha256: None,
        };
        let begin = || self.target.begin(&object.key, object.bytes, &told);
        let upload = self.write_retries.ask(begin, |_| ()).await;
        let upload: Arc<dyn Parts> = Arc::from(upload.map_err(Trouble::Target)?);
        // Where the listing tells no tags, all parts are those of what the first one is of.
        let as_read = Listed {
            etag: object.etag.clone().or(body.etag),
            ..object.clone()
        };
        let sent = self
            .send_parts(&as_read, &upload, parts, (body.bytes, paid), checksum)
            .await;
        let sent = sent.and_then(|found| check_whole(object, checksum, found));
        let complete = || upload.complete();
        let written = match sent {
            Ok(digest) => self
                .write_retries
                .ask(complete, |_| ())
                .await
                .map(|written| record(object, &written, digest))
                .map_err(Trouble::Target),
            Err(trouble) => Err(trouble),
        };
        match written {
            Ok(record) => Ok(record),
            Err(trouble) => {
                // A store that is away forgets it by itself, if it was told to.
                let _ = tokio::time::timeout(ABANDON, upload.abandon()).await;
                Err(trouble)
            }
        }
    }

    /// The checksum that the source keeps of the whole, if those of parts make it up.
    async fn checksum_of(&self, object: &Listed) -> Result<Option<Checksum>, Trouble> {
        let ask = || self.source.checksum(object);
        let told = self.retries.ask(ask, |_| ()).await;
        let told = told.map_err(Trouble::Source)?;
        Ok(told.filter(Checksum::is_made_of_parts))
    }

    /// The ranges of an object's parts.
    pub(super) fn parts_of(&self, object: &Listed) -> Result<Vec<Range<u64>>, ObjectError> {
        let (wanted, lane) = (self.large.buffers.bytes(), &self.large.budget);
        let limits = self.target.parts_limits();
        let bytes = part_bytes(object.bytes, limits, wanted as u64, lane.total_bytes());
        let bytes = bytes.map_err(|why| {
            let what = format!("{:?} cannot go to {}: {why}", object.key, self.target.url());
            ObjectError::new(ObjectErrorKind::Impossible, &object.key, what)
        })?;
        Ok(cut(object.bytes, bytes))
    }

    /// What a part costs: the buffer, however much of it is used.
    fn part_cost(&self, bytes: u64) -> u64 {
        bytes.max(self.large.buffers.bytes() as u64)
    }

    /// Reads and writes all parts; that of the parts, in their order, which `kind` is
    /// of the whole.
    async fn send_parts(
        &self,
        object: &Listed,
        upload: &Arc<dyn Parts>,
        parts: Vec<Range<u64>>,
        first: (Bytes, highwater::budget::Permit),
        kind: Option<Checksum>,
    ) -> Result<Vec<PartSum>, Trouble> {
        let mut running: JoinSet<Result<PartSum, Trouble>> = JoinSet::new();
        let mut sums = Vec::with_capacity(parts.len());
        let mut first = Some(first);
        for (number, range) in (0_u32..).zip(parts) {
            let (body, paid) = match first.take() {
                Some((body, paid)) => (Some(body), paid),
                None => {
                    let cost = self.part_cost(range.end - range.start);
                    (None, self.large.budget.take(cost).await)
                }
            };
            let (copier, object, upload) = (self.clone(), object.clone(), Arc::clone(upload));
            running.spawn(async move {
                let bytes = range.end - range.start;
                let sent = copier
                    .send_part(&object, upload.as_ref(), number, range, body)
                    .await;
                let sum = sent.map(|body| PartSum {
                    number,
                    bytes,
                    checksum: kind.map(|kind| kind.same_of(&body)),
                });
                drop(paid);
                sum
            });
            // A part that failed is a reason not to begin the others.
            while let Some(done) = running.try_join_next() {
                sums.push(over(done)?);
            }
        }
        while let Some(done) = running.join_next().await {
            sums.push(over(done)?);
        }
        sums.sort_unstable_by_key(|sum| sum.number);
        Ok(sums)
    }

    /// Reads a part, where it was not read yet, and writes it; the part.
    async fn send_part(
        &self,
        object: &Listed,
        upload: &dyn Parts,
        number: u32,
        range: Range<u64>,
        body: Option<Bytes>,
    ) -> Result<Bytes, Trouble> {
        let offset = range.start;
        let body = match body {
            Some(body) => body,
            None => self.read(&self.large, object, Some(range)).await?.bytes,
        };
        let once = || async {
            let mut slot = self.large.write.slot().await;
            let sent = upload.part(number, offset, body.clone()).await;
            match &sent {
                Ok(()) => slot.moved(body.len() as u64),
                Err(error) if error.is_overload() => slot.overloaded(),
                Err(_) => {}
            }
            sent
        };
        let sent = self.write_retries.ask(once, |_| ()).await;
        sent.map_err(Trouble::Target)?;
        Ok(body)
    }
}

/// The checksum of one part, where one is wanted.
struct PartSum {
    number: u32,
    bytes: u64,
    checksum: Option<Checksum>,
}

/// The checksum of the whole as text, where it is the expected one.
fn check_whole(
    object: &Listed,
    expected: Option<Checksum>,
    parts: Vec<PartSum>,
) -> Result<Option<String>, Trouble> {
    let Some(expected) = expected else {
        return Ok(None);
    };
    let found = parts
        .into_iter()
        .fold(None, |whole: Option<Checksum>, part| {
            let checksum = part.checksum?;
            match whole {
                None => Some(checksum),
                Some(whole) => whole.and_then(checksum, part.bytes),
            }
        });
    if found == Some(expected) {
        return Ok(Some(expected.to_string()));
    }
    let key = object.key.as_str();
    let found = found.map_or_else(String::new, |found| format!(" {found}"));
    let what = format!("{key:?} arrived in parts with the checksum{found}, {expected} was written");
    let error = ObjectError::new(ObjectErrorKind::Corrupt, key, what);
    Err(Trouble::Parts(error))
}

fn over<T>(done: Result<Result<T, Trouble>, tokio::task::JoinError>) -> Result<T, Trouble> {
    done.unwrap_or_else(|error| {
        let error = ObjectError::new(ObjectErrorKind::Failed, "", error.to_string());
        Err(Trouble::Target(error))
    })
}

/// How large the parts of an object are, in bytes: as large as is `wanted`, and larger where
/// the store, which takes parts of some sizes and so many of them, would have too many. An
/// error says why it cannot be cut: larger ones than the lane has memory for would pass the
/// memory limit.
fn part_bytes(
    bytes: u64,
    (sizes, most): (Range<u64>, u64),
    wanted: u64,
    lane_bytes: u64,
) -> Result<u64, String> {
    let needed = bytes.div_ceil(most.max(1));
    // Files are written in whole blocks.
    let part = wanted.max(needed).next_multiple_of(BLOCK_BYTES as u64);
    if part >= sizes.end {
        return Err(format!("it is more than {most} parts of the greatest size"));
    }
    if needed > wanted && part > lane_bytes {
        return Err(format!(
            "as {most} parts, which is the most, each has {} MiB, and there is memory for {} MiB; \
             give more --memory",
            part >> 20,
            lane_bytes >> 20
        ));
    }
    Ok(part)
}

/// Ranges of `each` bytes that make up `bytes`.
fn cut(bytes: u64, each: u64) -> Vec<Range<u64>> {
    let begins = (0..bytes.div_ceil(each.max(1))).map(|number| number * each);
    begins
        .map(|begin| begin..(begin + each).min(bytes))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn parts_grow_with_the_object_and_never_beyond_memory() {
        let limits = || (5 * MIB..5 * 1024 * MIB, 10_000);
        let cut = |bytes, lane| part_bytes(bytes, limits(), 8 * MIB, lane);
        assert_eq!(cut(50 * MIB, 66 * MIB), Ok(8 * MIB));
        assert_eq!(cut(200_000 * MIB, 66 * MIB), Ok(20 * MIB));
        let beyond = cut(700_000 * MIB, 66 * MIB);
        assert!(beyond.is_err_and(|why| why.contains("70 MiB") && why.contains("66 MiB")));
        // The least that a store takes may pass alone, however little memory there is.
        assert_eq!(cut(50 * MIB, MIB), Ok(8 * MIB));
        assert!(cut(u64::MAX / 2, u64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn parts_make_up_the_whole(bytes in 0_u64..10_000, each in 1_u64..500) {
            let parts = cut(bytes, each);
            let mut end = 0;
            for part in &parts {
                prop_assert_eq!(part.start, end);
                prop_assert!(part.end > part.start && part.end - part.start <= each);
                end = part.end;
            }
            prop_assert_eq!(end, bytes);
        }
    }
}
