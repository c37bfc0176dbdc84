//! The source itself: a path, asked one question at a time.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use highwater::dataset::TableName;
use highwater::source::{Discovered, Selection, Source, SourceError, View};
use highwater::watermark::Identity;

use super::connection::{Line, begin, blocking};
use super::discover;
use super::snapshot::SqliteSnapshot;

/// A SQLite file.
pub(super) struct SqliteSource {
    path: PathBuf,
}

impl SqliteSource {
    /// Of the file at the canonical `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn identity(&self) -> Result<Identity, SourceError> {
        let path = self.path.clone();
        blocking(move || {
            let application: i64 = Line::open(&path)?.with(|connection| {
                Ok(connection.pragma_query_value(None, "application_id", |row| row.get(0))?)
            })?;
            // A path that is not UTF-8 is written so that no two become equal.
            let path = path
                .to_str()
                .map_or_else(|| format!("{path:?}"), ToOwned::to_owned);
            Ok(Identity {
                kind: "sqlite".to_owned(),
                id: format!("{path}?application_id={application}"),
                history: String::new(),
            })
        })
        .await
    }

    async fn discover(&self, selection: &Selection) -> Result<Vec<Discovered>, SourceError> {
        let (path, selection) = (self.path.clone(), selection.clone());
        blocking(move || {
            Line::open(&path)?.with(|connection| {
                begin(connection)?;
                discover::discover(connection, &path, &selection)
            })
        })
        .await
    }

    /// A transaction sees the schema of its beginning, so nothing need be kept.
    async fn view(
        &self,
        selection: &Selection,
        _kept: &[TableName],
        readers: usize,
    ) -> Result<View, SourceError> {
        let (path, selection) = (self.path.clone(), selection.clone());
        blocking(move || {
            let snapshot = SqliteSnapshot::take(&path, readers)?;
            let tables = snapshot.discover(&path, &selection)?;
            Ok(View {
                snapshot: Arc::new(snapshot),
                tables,
            })
        })
        .await
    }
}
