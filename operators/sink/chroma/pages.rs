//! All ids of a collection, page by page.

use super::collection::Collection;
use super::error::ChromaError;

/// Reads ids in the order in which the server took them. Nobody else may write meanwhile;
/// who deletes says so by [`deleted`](Self::deleted).
#[derive(Debug)]
pub struct Pages {
    collection: Collection,
    page_ids: usize,
    offset: u64,
}

impl Pages {
    pub(super) fn new(collection: Collection, page_ids: usize) -> Self {
        Self {
            collection,
            page_ids: page_ids.max(1),
            offset: 0,
        }
    }

    /// The next page; `None` after the last one.
    ///
    /// # Errors
    /// [`ChromaError`]. The same page may be asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, ChromaError> {
        let ids = self.collection.ids_at(self.offset, self.page_ids).await?;
        self.offset += ids.len() as u64;
        Ok((!ids.is_empty()).then_some(ids))
    }

    /// So many points of the pages so far were deleted: the others have moved up.
    pub fn deleted(&mut self, points: usize) {
        self.offset = self.offset.saturating_sub(points as u64);
    }
}
