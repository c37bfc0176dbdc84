//! What a collection has and should not, and what it lacks.
//!
//! A collection is compared with the lake by ids, where it was restored from somewhere,
//! emptied, or left in the middle of a write. What should be there is kept as hashes of
//! 128 bits: 17 bytes an id. Where even that is too much, ids are divided into shares by
//! their hashes, and each share is compared by itself.

use xxhash_rust::xxh3::xxh3_128;

use super::collection::Collection;
use super::error::ChromaError;

/// The ids that a collection should hold.
#[derive(Debug)]
pub struct Expected {
    share: u32,
    shares: u32,
    hashes: Vec<u128>,
    is_there: Vec<bool>,
    is_sorted: bool,
}

/// What came of comparing a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconciled {
    /// Points that were there and should be.
    pub kept: u64,
    /// Points that should not be there; they were deleted.
    pub deleted: u64,
    /// Points that should be there and are not.
    pub missing: u64,
}

impl Default for Expected {
    fn default() -> Self {
        Self::share(0, 1)
    }
}

impl Expected {
    /// Share `share` of `shares`, from 0; ids of other shares are passed over.
    #[must_use]
    pub fn share(share: u32, shares: u32) -> Self {
        Self {
            share,
            shares: shares.max(1),
            hashes: Vec::new(),
            is_there: Vec::new(),
            is_sorted: false,
        }
    }

    /// The collection should hold this id. Naming it twice does no harm.
    pub fn add(&mut self, id: &str) {
        if let Some(hash) = self.hash(id) {
            self.hashes.push(hash);
            self.is_sorted = false;
        }
    }

    /// Whether this id should be there and was not when the collection was compared.
    #[must_use]
    pub fn is_missing(&self, id: &str) -> bool {
        let at = self
            .hash(id)
            .and_then(|hash| self.hashes.binary_search(&hash).ok());
        at.and_then(|at| self.is_there.get(at)) == Some(&false)
    }

    /// Compares the collection page by page, and deletes what should not be there. Then
    /// [`is_missing`](Self::is_missing) says of each id whether it must be written. What
    /// is there under the right id may still have another vector or other metadata.
    ///
    /// # Errors
    /// [`ChromaError`]; comparing again mends it.
    pub async fn reconcile(&mut self, collection: &Collection) -> Result<Reconciled, ChromaError> {
        self.sort();
        let mut pages = collection.ids();
        let (mut kept, mut deleted) = (0, 0);
        while let Some(page) = pages.next().await? {
            let surplus = self.surplus(&page, &mut kept);
            collection.delete(&surplus).await?;
            pages.deleted(surplus.len());
            deleted += surplus.len() as u64;
        }
        let missing = self.is_there.iter().filter(|there| !**there).count() as u64;
        Ok(Reconciled {
            kept,
            deleted,
            missing,
        })
    }

    /// The ids of a page that should not be there; the others are seen.
    fn surplus<'a>(&mut self, page: &'a [String], kept: &mut u64) -> Vec<&'a str> {
        let mut surplus = Vec::new();
        for id in page {
            let Some(hash) = self.hash(id) else {
                continue;
            };
            match self.hashes.binary_search(&hash) {
                Ok(at) => {
                    self.is_there[at] = true;
                    *kept += 1;
                }
                Err(_) => surplus.push(id.as_str()),
            }
        }
        surplus
    }

    fn sort(&mut self) {
        if !self.is_sorted {
            self.hashes.sort_unstable();
            self.hashes.dedup();
            self.is_sorted = true;
        }
        self.is_there.clear();
        self.is_there.resize(self.hashes.len(), false);
    }

    /// The hash of an id of this share.
    fn hash(&self, id: &str) -> Option<u128> {
        let hash = xxh3_128(id.as_bytes());
        (hash % u128::from(self.shares) == u128::from(self.share)).then_some(hash)
    }
}
