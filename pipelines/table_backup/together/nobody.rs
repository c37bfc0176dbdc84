//! A view that only the first process can read, as the others have it: they take
//! part in the dataflow and are given no split.

use async_trait::async_trait;
use highwater::source::{Reader, Readers, SourceError, SourceErrorKind};

/// A view without readers.
pub(super) struct Nobody;

#[async_trait]
impl Readers for Nobody {
    fn max_readers(&self) -> usize {
        0
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Err(SourceError::new(
            SourceErrorKind::Failed,
            "this view is read by the first process alone; please report this",
        ))
    }
}
