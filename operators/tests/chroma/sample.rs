//! Points to write, and what must be found of them.

use std::collections::HashMap;
use std::time::Duration;

use highwater::store::pace::RetryPolicy;
use highwater_operators::sink::chroma::{Chroma, ChromaOptions, Collection, Point};
use serde_json::{Map, Value, json};

pub const DIMENSION: usize = 384;

/// A point with its own memory.
#[derive(Debug, Clone)]
pub struct Owned {
    pub id: String,
    pub vector: Vec<f32>,
    pub text: String,
    pub metadata: Map<String, Value>,
}

impl Owned {
    pub fn point(&self) -> Point<'_> {
        Point {
            id: &self.id,
            vector: &self.vector,
            text: &self.text,
            metadata: &self.metadata,
        }
    }
}

/// Points with ids from `first`; `version` changes all but the ids.
pub fn points(first: usize, count: usize, version: u64) -> Vec<Owned> {
    let mut random = fastrand::Rng::with_seed(version);
    let points = (first..first + count).map(|number| {
        let vector: Vec<f32> = (0..DIMENSION).map(|_| random.f32() - 0.5).collect();
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let metadata =
            json!({ "page": number % 90, "path": "A > \"B\"", "weight": 0.25, "version": version });
        Owned {
            id: format!("{:032x}", (number as u128) << 64 | 7),
            vector: vector.iter().map(|x| x / length).collect(),
            text: format!("chunk {number} of version {version}: \u{1}\n\"ünïcode\" 漢字 👩‍👧"),
            metadata: metadata.as_object().unwrap().clone(),
        }
    });
    points.collect()
}

pub async fn write(collection: &Collection, points: &[Owned]) {
    let points: Vec<_> = points.iter().map(Owned::point).collect();
    collection.upsert(&points).await.unwrap();
}

/// Fails unless the collection holds exactly these points.
#[track_caller]
pub fn assert_holds<'a>(
    runtime: &tokio::runtime::Runtime,
    collection: &Collection,
    expected: impl IntoIterator<Item = &'a Owned>,
) {
    let mut expected: HashMap<&str, &Owned> = expected
        .into_iter()
        .map(|point| (point.id.as_str(), point))
        .collect();
    runtime.block_on(async {
        assert_eq!(collection.count().await.unwrap(), expected.len() as u64);
        let mut pages = collection.ids();
        while let Some(page) = pages.next().await.unwrap() {
            let ids: Vec<&str> = page.iter().map(String::as_str).collect();
            for record in collection.get(&ids).await.unwrap() {
                let point = expected
                    .remove(record.id.as_str())
                    .expect("a point that should be there");
                assert_eq!(record.text.as_deref(), Some(point.text.as_str()));
                assert_eq!(record.metadata, point.metadata);
                assert_eq!(record.vector.len(), DIMENSION);
                for (found, written) in record.vector.iter().zip(&point.vector) {
                    assert!((found - written).abs() < 1e-6, "{found} {written}");
                }
            }
        }
    });
    assert_eq!(expected.len(), 0);
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

/// Small pages, short pauses.
pub fn options() -> ChromaOptions {
    ChromaOptions {
        page_ids: 700,
        timeout: Duration::from_secs(30),
        retries: RetryPolicy {
            attempts: 60,
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(2),
            ..RetryPolicy::default()
        },
        ..ChromaOptions::default()
    }
}

pub async fn open(url: &str) -> Chroma {
    Chroma::open(url, options()).await.unwrap()
}

pub fn map(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}
