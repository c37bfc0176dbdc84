//! Which worker gets which rows: every way ends in pairs for [`exchange`].
//!
//! | way | rows of one key | shares | choose it when |
//! |---|---|---|---|
//! | [`by_hash`] | meet on one worker | as even as the keys are | rows of a key must meet: changes, joins, newest version |
//! | [`Salted`] | of a frequent key anywhere, of others on one worker | even | what comes after works on parts of a key, or sums them up again in a second step |
//! | [`split_by`] | where the caller says | as good as his bounds | order matters: ranges whose bounds come from a sample; a frequent key may be given several workers |
//! | [`Spread`] | anywhere, batches stay whole | even | rows have nothing to do with each other: encoding, embedding |
//!
//! One key with half of the rows makes `by_hash` wait for one worker, whatever the
//! number of workers: that is its price, and `Salted` is the remedy. Hashing
//! itself is the caller's: he knows the key. A hash that was used here divides
//! badly a second time by the same rule on the worker that it led to.
//!
//! Permits and source bytes are divided as rows are; their sums stay.
//!
//! [`exchange`]: super::exchange()

mod frequent;
#[cfg(test)]
mod tests;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;

use self::frequent::Frequent;
use crate::batch::Batch;

/// Divides a batch by the worker that stands beside each row. A batch that goes to
/// one worker as a whole is not copied.
///
/// # Errors
/// There are more or fewer targets than rows; a column's type cannot be divided.
pub fn split_by(batch: Batch, targets: &[usize]) -> Result<Vec<(usize, Batch)>, ArrowError> {
    if targets.len() != batch.rows.num_rows() {
        return Err(ArrowError::InvalidArgumentError(format!(
            "{} targets for {} rows",
            targets.len(),
            batch.rows.num_rows()
        )));
    }
    let Some((first, rest)) = targets.split_first() else {
        return Ok(Vec::new());
    };
    if rest.iter().all(|target| target == first) {
        return Ok(vec![(*first, batch)]);
    }
    let workers = targets.iter().max().map_or(0, |last| last + 1);
    let mut selected: Vec<Vec<u32>> = vec![Vec::new(); workers];
    for (row, target) in (0..).zip(targets) {
        if let Some(rows) = selected.get_mut(*target) {
            rows.push(row);
        }
    }
    divide(batch, selected)
}

fn divide(batch: Batch, selected: Vec<Vec<u32>>) -> Result<Vec<(usize, Batch)>, ArrowError> {
    let (mut workers, mut parts) = (Vec::new(), Vec::new());
    for (worker, rows) in selected.into_iter().enumerate() {
        if !rows.is_empty() {
            workers.push(worker);
            parts.push(take_record_batch(&batch.rows, &UInt32Array::from(rows))?);
        }
    }
    Ok(workers.into_iter().zip(batch.divided_into(parts)).collect())
}

/// Divides a batch by the hash of each row's key, among `peers` workers: rows of
/// one key meet on one worker. 64 bits of the hash are used, the low ones.
///
/// # Errors
/// As [`split_by`].
pub fn by_hash<H: Into<u128> + Copy>(
    batch: Batch,
    hashes: &[H],
    peers: usize,
) -> Result<Vec<(usize, Batch)>, ArrowError> {
    let targets: Vec<usize> = hashes
        .iter()
        .map(|hash| worker_of(low_bits((*hash).into()), peers))
        .collect();
    split_by(batch, &targets)
}

fn low_bits(hash: u128) -> u64 {
    (hash & u128::from(u64::MAX)) as u64
}

fn worker_of(hash: u64, peers: usize) -> usize {
    // The product's upper half: even for any number of peers, without a division.
    let scaled = (u128::from(hash) * peers.max(1) as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}

/// Divides batches by the hash of each row's key, but for keys that are frequent:
/// their rows go to all workers in turn. Which keys are frequent is learned from
/// the rows themselves, so it may differ from worker to worker and change: rows of
/// a key that must meet are no matter for this.
#[derive(Debug)]
pub struct Salted {
    peers: usize,
    frequent: Frequent,
    turn: usize,
}

/// A key is frequent when its rows are more than such a part of one worker's share.
const FREQUENT_PART: usize = 64;

impl Salted {
    /// For so many workers. One for each worker that sends.
    #[must_use]
    pub fn new(peers: usize) -> Self {
        Self {
            peers: peers.max(1),
            frequent: Frequent::new(FREQUENT_PART * peers.max(1)),
            turn: 0,
        }
    }

    /// Divides the next batch.
    ///
    /// # Errors
    /// As [`split_by`].
    pub fn route<H: Into<u128> + Copy>(
        &mut self,
        batch: Batch,
        hashes: &[H],
    ) -> Result<Vec<(usize, Batch)>, ArrowError> {
        let targets: Vec<usize> = hashes
            .iter()
            .map(|hash| self.target(low_bits((*hash).into())))
            .collect();
        split_by(batch, &targets)
    }

    fn target(&mut self, hash: u64) -> usize {
        if !self.frequent.see(hash) {
            return worker_of(hash, self.peers);
        }
        self.turn = (self.turn + 1) % self.peers;
        self.turn
    }
}

/// Gives whole batches to whom this worker has given least.
#[derive(Debug)]
pub struct Spread {
    /// Bytes given to each worker.
    given: Vec<u64>,
    /// Who comes first among equals: not the same for all who send.
    first: usize,
}

impl Spread {
    /// For the worker `here` of so many.
    #[must_use]
    pub fn new(here: usize, peers: usize) -> Self {
        Self {
            given: vec![0; peers.max(1)],
            first: here % peers.max(1),
        }
    }

    /// Chooses a worker for the batch.
    pub fn route(&mut self, batch: Batch) -> (usize, Batch) {
        let peers = self.given.len();
        let turn = |worker: usize| (worker + peers - self.first) % peers;
        let least = self.given.iter().enumerate();
        let least = least.min_by_key(|(worker, given)| (**given, turn(*worker)));
        let worker = least.map_or(0, |(worker, _)| worker);
        if let Some(given) = self.given.get_mut(worker) {
            let bytes = batch.permit.bytes().max(batch.source_bytes);
            *given += bytes.max(batch.rows.num_rows() as u64);
        }
        (worker, batch)
    }
}
