//! A view that only the first process can read, as the others have it: they take
//! part in the dataflow and are given no split.

use std::time::Duration;

use async_trait::async_trait;
use highwater::source::{
    CursorBound, Reader, Snapshot, SourceError, SourceErrorKind, SplitPlan, TableRead,
};
use highwater::watermark::Bound;

/// A view without readers.
#[derive(Default)]
pub(super) struct Nobody {
    bound: Bound,
}

fn not_here() -> SourceError {
    SourceError::new(
        SourceErrorKind::Failed,
        "this view is read by the first process alone; please report this",
    )
}

#[async_trait]
impl Snapshot for Nobody {
    fn bound(&self) -> &Bound {
        &self.bound
    }

    async fn split(&self, _: &TableRead, _: u64) -> Result<SplitPlan, SourceError> {
        Err(not_here())
    }

    fn max_readers(&self) -> usize {
        0
    }

    async fn count(&self, _: &TableRead) -> Result<u64, SourceError> {
        Err(not_here())
    }

    async fn can_read_since(
        &self,
        _: &TableRead,
        _: &str,
    ) -> Result<Result<(), String>, SourceError> {
        Err(not_here())
    }

    async fn cursor_bound(
        &self,
        _: &TableRead,
        _: &str,
        _: Duration,
    ) -> Result<CursorBound, SourceError> {
        Err(not_here())
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Err(not_here())
    }
}
