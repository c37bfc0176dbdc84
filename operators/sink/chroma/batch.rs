//! Points to requests that the server takes.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::ChromaError;

/// One vector, and what is kept with it.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// Its id; another point with this id is replaced.
    pub id: &'a str,
    /// The vector; finite numbers, as many as the collection's other vectors have.
    pub vector: &'a [f32],
    /// The text.
    pub text: &'a str,
    /// Booleans, numbers, texts and lists of these. The server merges: a key that is left
    /// out keeps the value that it had under this id, one with `null` loses it.
    pub metadata: &'a Map<String, Value>,
}

/// How large a request may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) points: usize,
    pub(super) bytes: usize,
}

/// What a vector has beside its numbers, per point.
const OVERHEAD_BYTES: usize = 16;

impl Point<'_> {
    /// An upper bound of the bytes of this point in a request.
    fn bytes(&self, as_base64: bool) -> usize {
        let vector = match as_base64 {
            true => self.vector.len().div_ceil(3) * 16,
            // Sign, nine digits, point, exponent, comma.
            false => self.vector.len() * 17,
        };
        let metadata = self.metadata.iter();
        let metadata: usize = metadata
            .map(|(key, value)| text_bytes(key) + value_bytes(value) + 2)
            .sum();
        text_bytes(self.id) + text_bytes(self.text) + vector + metadata + OVERHEAD_BYTES
    }

    pub(super) fn check(
        &self,
        collection: &str,
        dimension: Option<usize>,
    ) -> Result<usize, ChromaError> {
        let bad = |why: &str| ChromaError::BadPoint {
            collection: collection.to_owned(),
            id: self.id.to_owned(),
            why: why.to_owned(),
        };
        if self.id.is_empty() {
            return Err(bad("its id is empty"));
        }
        if self.vector.is_empty() {
            return Err(bad("its vector is empty"));
        }
        if let Some(at) = self.vector.iter().position(|number| !number.is_finite()) {
            return Err(bad(&format!(
                "number {at} of its vector is {}",
                self.vector[at]
            )));
        }
        let found = self.vector.len();
        match dimension {
            Some(expected) if expected != found => Err(ChromaError::Dimension {
                collection: collection.to_owned(),
                expected,
                found,
            }),
            _ => Ok(found),
        }
    }
}

/// The bytes of a text in JSON, at most.
pub(super) fn text_bytes(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    });
    escaped.sum::<usize>() + 3
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text_bytes(text),
        Value::Array(values) => values.iter().map(value_bytes).sum::<usize>() + 3,
        Value::Object(values) => {
            values
                .iter()
                .map(|(key, value)| text_bytes(key) + value_bytes(value) + 2)
                .sum::<usize>()
                + 3
        }
        _ => 32,
    }
}

/// Cuts items into ranges that keep to the limits; one item that alone is too large is
/// a range of its own.
pub(super) fn batches<T>(
    items: &[T],
    limits: Limits,
    bytes_of: impl Fn(&T) -> usize,
) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        let more = bytes_of(item);
        if at > start && (at - start >= limits.points.max(1) || bytes + more > limits.bytes) {
            ranges.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += more;
    }
    if start < items.len() {
        ranges.push(start..items.len());
    }
    ranges
}

/// The ranges of points that are sent together.
pub(super) fn of_points(
    points: &[Point<'_>],
    limits: Limits,
    as_base64: bool,
) -> Vec<Range<usize>> {
    batches(points, limits, |point| point.bytes(as_base64))
}

#[derive(Serialize)]
struct Request<'a> {
    ids: Vec<&'a str>,
    embeddings: Embeddings<'a>,
    documents: Vec<&'a str>,
    metadatas: Vec<&'a Map<String, Value>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embeddings<'a> {
    Base64(Vec<String>),
    Numbers(Vec<&'a [f32]>),
}

/// The body of an upsert. In Base64 a vector is its numbers in little-endian order.
pub(super) fn upsert_body(
    points: &[Point<'_>],
    as_base64: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    let embeddings = match as_base64 {
        true => Embeddings::Base64(
            points
                .iter()
                .map(|point| {
                    bytes.clear();
                    bytes.extend(point.vector.iter().flat_map(|number| number.to_le_bytes()));
                    STANDARD.encode(&bytes)
                })
                .collect(),
        ),
        false => Embeddings::Numbers(points.iter().map(|point| point.vector).collect()),
    };
    serde_json::to_vec(&Request {
        ids: points.iter().map(|point| point.id).collect(),
        embeddings,
        documents: points.iter().map(|point| point.text).collect(),
        metadatas: points.iter().map(|point| point.metadata).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn requests_keep_to_the_limits(
            texts in prop::collection::vec("\\PC{0,200}|[\\x00-\\x7f]{0,100}", 0..60),
            vector in prop::collection::vec(any::<f32>().prop_filter("finite", |number| number.is_finite()), 1..40),
            points in 1_usize..20,
            bytes in 500_usize..5_000,
            as_base64: bool,
        ) {
            let metadatas: Vec<_> = texts.iter().map(|text| {
                serde_json::json!({ text: [1.5e-300, text, null, true], "b": u64::MAX }).as_object().unwrap().clone()
            }).collect();
            let all: Vec<_> = texts.iter().zip(&metadatas).map(|(text, metadata)| Point { id: text, vector: &vector, text, metadata }).collect();
            let limits = Limits { points, bytes };
            let mut next = 0;
            for range in of_points(&all, limits, as_base64) {
                prop_assert_eq!(range.start, next);
                prop_assert!(!range.is_empty() && range.len() <= points);
                next = range.end;
                let body = upsert_body(&all[range.clone()], as_base64).unwrap();
                // The names of the four lists.
                prop_assert!(range.len() == 1 || body.len() <= bytes + 64, "{}", body.len());
            }
            prop_assert_eq!(next, all.len());
        }
    }

    #[test]
    fn vectors_in_base64_are_little_endian() {
        let metadata = Map::new();
        let point = Point {
            id: "a",
            vector: &[1.0, -0.5],
            text: "t",
            metadata: &metadata,
        };
        let body = String::from_utf8(upsert_body(&[point], true).unwrap()).unwrap();
        assert!(body.contains(r#""embeddings":["AACAPwAAAL8="]"#), "{body}");
        let body = String::from_utf8(upsert_body(&[point], false).unwrap()).unwrap();
        assert!(body.contains(r#""embeddings":[[1.0,-0.5]]"#), "{body}");
    }
}
