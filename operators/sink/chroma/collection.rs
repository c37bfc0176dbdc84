//! One collection.

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::batch::{self, Limits, Point};
use super::client::{Chroma, Shared};
use super::error::ChromaError;
use super::pages::Pages;
use crate::service::{HttpError, HttpErrorKind};

/// What a server says about a collection.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Described {
    id: String,
    name: String,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
    #[serde(default)]
    dimension: Option<usize>,
    #[serde(default)]
    configuration_json: Value,
}

/// A collection as it was when it was found. It is held by the server's own id: one that
/// is removed and made again under the same name is another one.
#[derive(Debug, Clone)]
pub struct Collection {
    chroma: Chroma,
    described: Described,
}

/// A point as the server holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Its vector.
    pub vector: Vec<f32>,
    /// Its text, if it has one.
    pub text: Option<String>,
    /// What is kept with it.
    pub metadata: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Got {
    ids: Vec<String>,
    #[serde(default)]
    embeddings: Option<Vec<Vec<f32>>>,
    #[serde(default)]
    documents: Option<Vec<Option<String>>>,
    #[serde(default)]
    metadatas: Option<Vec<Option<Map<String, Value>>>>,
}

/// Of points that are read with all they have, so many are asked for at once.
const POINTS_READ: usize = 500;
/// Of an id, what a request has beside it.
const DELETE_POINTS: usize = 5_000;

impl Collection {
    pub(super) fn new(chroma: Chroma, described: Described) -> Self {
        Self { chroma, described }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.described.name
    }

    /// What is kept with the collection as a whole.
    #[must_use]
    pub fn metadata(&self) -> Option<&Map<String, Value>> {
        self.described.metadata.as_ref()
    }

    /// The length of its vectors; `None` as long as it never had one.
    #[must_use]
    pub fn dimension(&self) -> Option<usize> {
        self.described.dimension
    }

    /// How distances are measured: `cosine`, `l2`, `ip`.
    #[must_use]
    pub fn space(&self) -> Option<&str> {
        self.described.configuration_json["hnsw"]["space"].as_str()
    }

    /// Replaces all that is kept with the collection as a whole; the server takes nothing
    /// empty.
    ///
    /// # Errors
    /// [`ChromaError`].
    pub async fn set_metadata(&mut self, metadata: Map<String, Value>) -> Result<(), ChromaError> {
        let body = json!({ "new_metadata": metadata });
        let set = self
            .chroma
            .ask::<IgnoredAny>(Method::PUT, self.path(""), &body);
        match set.await {
            Ok(IgnoredAny) => {
                self.described.metadata = Some(metadata);
                Ok(())
            }
            Err(error) => Err(self.failed(error, "set the metadata")),
        }
    }

    /// How many points it holds.
    ///
    /// # Errors
    /// [`ChromaError`].
    pub async fn count(&self) -> Result<u64, ChromaError> {
        let asked = self
            .chroma
            .ask(Method::GET, self.path("/count"), &Value::Null);
        asked
            .await
            .map_err(|error| self.failed(error, "count the points"))
    }

    /// Writes points; those with the same ids are replaced. The points are written batch
    /// by batch: after a failure some are there, and writing all again mends it.
    ///
    /// # Errors
    /// [`ChromaError`]. What no collection takes is found before anything is written.
    pub async fn upsert(&self, points: &[Point<'_>]) -> Result<(), ChromaError> {
        let mut dimension = self.dimension();
        for point in points {
            dimension = Some(point.check(self.name(), dimension)?);
        }
        let Shared { options, takes, .. } = &*self.chroma.shared;
        let limits = Limits {
            points: self.chroma.max_batch_points(),
            bytes: options.request_bytes,
        };
        for range in batch::of_points(points, limits, takes.supports_base64_encoding) {
            self.upsert_batch(&points[range]).await?;
        }
        Ok(())
    }

    /// Writes a batch; in halves where the server finds it too large.
    async fn upsert_batch(&self, points: &[Point<'_>]) -> Result<(), ChromaError> {
        let path = self.path("/upsert");
        let mut left = vec![points];
        while let Some(points) = left.pop() {
            let as_base64 = self.chroma.shared.takes.supports_base64_encoding;
            let body = batch::upsert_body(points, as_base64).map_err(|error| {
                let error = HttpError::new(HttpErrorKind::Unusable, error.to_string());
                self.failed(error, "write points")
            })?;
            let sent =
                self.chroma
                    .ask_bytes::<IgnoredAny>(Method::POST, path.clone(), Bytes::from(body));
            match sent.await {
                Ok(IgnoredAny) => {}
                Err(error) if error.kind == HttpErrorKind::TooLarge && points.len() > 1 => {
                    let (first, second) = points.split_at(points.len() / 2);
                    left.extend([second, first]);
                }
                Err(error) => return Err(self.write_failed(error, points)),
            }
        }
        Ok(())
    }

    /// Removes points; ids that are not there are no failure.
    ///
    /// # Errors
    /// [`ChromaError`].
    pub async fn delete(&self, ids: &[&str]) -> Result<(), ChromaError> {
        for range in self.of_ids(ids, DELETE_POINTS) {
            let body = json!({ "ids": &ids[range] });
            let sent = self
                .chroma
                .ask::<IgnoredAny>(Method::POST, self.path("/delete"), &body);
            sent.await
                .map_err(|error| self.failed(error, "delete points"))?;
        }
        Ok(())
    }

    /// The points with these ids, as far as they are there, in no certain order.
    ///
    /// # Errors
    /// [`ChromaError`].
    pub async fn get(&self, ids: &[&str]) -> Result<Vec<Record>, ChromaError> {
        let mut records = Vec::new();
        for range in self.of_ids(ids, POINTS_READ) {
            let body = json!({
                "ids": &ids[range],
                "include": ["embeddings", "documents", "metadatas"],
            });
            let got = self.read(&body).await?;
            let mut vectors = got.embeddings.unwrap_or_default().into_iter();
            let mut texts = got.documents.unwrap_or_default().into_iter();
            let mut metadatas = got.metadatas.unwrap_or_default().into_iter();
            records.extend(got.ids.into_iter().map(|id| Record {
                id,
                vector: vectors.next().unwrap_or_default(),
                text: texts.next().flatten(),
                metadata: metadatas.next().flatten().unwrap_or_default(),
            }));
        }
        Ok(records)
    }

    /// All ids, page by page.
    #[must_use]
    pub fn ids(&self) -> Pages {
        Pages::new(self.clone(), self.chroma.shared.options.page_ids)
    }

    /// The ids at these places in the server's order.
    pub(super) async fn ids_at(
        &self,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<String>, ChromaError> {
        let body = json!({ "limit": limit, "offset": offset, "include": [] });
        Ok(self.read(&body).await?.ids)
    }

    async fn read(&self, body: &Value) -> Result<Got, ChromaError> {
        let asked = self.chroma.ask(Method::POST, self.path("/get"), body);
        asked
            .await
            .map_err(|error| self.failed(error, "read points"))
    }

    fn of_ids(&self, ids: &[&str], points: usize) -> Vec<std::ops::Range<usize>> {
        let limits = Limits {
            points: points.min(self.chroma.max_batch_points()),
            bytes: self.chroma.shared.options.request_bytes,
        };
        batch::batches(ids, limits, |id| batch::text_bytes(id))
    }

    fn path(&self, what: &str) -> String {
        format!(
            "{}/collections/{}{what}",
            self.chroma.database_path(),
            self.described.id
        )
    }

    fn failed(&self, error: HttpError, doing: &str) -> ChromaError {
        match error.kind {
            HttpErrorKind::NotFound => ChromaError::NoCollection {
                server: self.chroma.shared.server.clone(),
                collection: self.name().to_owned(),
            },
            _ => self
                .chroma
                .failed(error, &format!("{doing} of collection {:?}", self.name())),
        }
    }

    fn write_failed(&self, error: HttpError, points: &[Point<'_>]) -> ChromaError {
        // It learned of its dimension after it was found here.
        let found = points.first().map_or(0, |point| point.vector.len());
        match dimension_in(&error) {
            Some(expected) => ChromaError::Dimension {
                collection: self.name().to_owned(),
                expected,
                found,
            },
            None if error.kind == HttpErrorKind::TooLarge => ChromaError::BadPoint {
                collection: self.name().to_owned(),
                id: points.first().map_or("", |point| point.id).to_owned(),
                why: "the server finds it too large".to_owned(),
            },
            None => self.failed(error, "write points"),
        }
    }
}

/// The dimension that the server says it expects.
fn dimension_in(error: &HttpError) -> Option<usize> {
    let (_, said) = error.message.split_once("embedding with dimension of ")?;
    let digits = said.split(|char: char| !char.is_ascii_digit()).next()?;
    digits.parse().ok()
}
