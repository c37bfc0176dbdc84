//! Writes points to a ChromaDB server and says how long that took.
//!
//! ```text
//! cargo run --release -p highwater-operators --example chroma_write -- \
//!     chroma://127.0.0.1:8000 bench 20000
//! ```

use std::time::Instant;

use highwater_operators::sink::chroma::{Chroma, ChromaOptions, Point};
use serde_json::{Map, Value, json};

/// The length of a vector.
const DIMENSION: usize = 384;
/// Points of one call, as many as the embedding operator gives at once.
const POINTS_OF_CALL: usize = 2_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(name), Some(points)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: chroma_write URL COLLECTION POINTS".into());
    };
    let points: usize = points.parse()?;
    let chroma = Chroma::open(&url, ChromaOptions::default()).await?;
    let collection = chroma.collection(&name, &Map::new()).await?;
    let mut random = fastrand::Rng::with_seed(1);
    let rows: Vec<(String, Vec<f32>, String, Value)> = (0..points)
        .map(|number| {
            let vector = (0..DIMENSION).map(|_| random.f32() - 0.5).collect();
            let text = format!("chunk {number} ").repeat(80);
            let metadata = json!({ "document": format!("d{}", number / 20), "page": number % 30 });
            (format!("{number:032x}"), vector, text, metadata)
        })
        .collect();
    let none = Map::new();
    let began = Instant::now();
    for rows in rows.chunks(POINTS_OF_CALL) {
        let points: Vec<_> = rows
            .iter()
            .map(|(id, vector, text, metadata)| Point {
                id,
                vector,
                text,
                metadata: metadata.as_object().unwrap_or(&none),
            })
            .collect();
        collection.upsert(&points).await?;
    }
    println!("{:.3}", began.elapsed().as_secs_f64());
    assert_eq!(collection.count().await?, points as u64);
    Ok(())
}
