//! `search`: the chunks nearest to some words, by looking at every vector of the lake.
//!
//! An exact scan: it needs no index and no server, and shows whether the lake holds what
//! it should. The first pass reads vectors alone; the rows of the best are read after it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, ListArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int32Type, Schema, SchemaRef};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater::app::{Answer, Exit, Failure, Given, RunContext};
use highwater::ledger::{Ledger, LoggedFile};
use highwater::run::Config;
use highwater::run::lake::open_lake;
use highwater::store::Store;
use highwater_operators::ingest::documents::{chunks_schema, columns};
use highwater_operators::lake::{LakeReadError, TableFile};
use serde_json::json;

use super::instance::instances;
use super::model::Model;
use super::vectors::unreadable;

/// Chunks that are shown where nobody says how many.
const TOP: usize = 10;

/// Rows decoded at once.
const ROWS_AT_ONCE: usize = 1024;

/// How much of a text is shown to people, in characters.
const SHOWN: usize = 300;

/// Numbers that are multiplied side by side.
const LANES: usize = 16;

/// A row of a file, and how near it is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Hit {
    score: f32,
    table: usize,
    file: usize,
    row: u64,
}

impl Eq for Hit {}

impl Ord for Hit {
    /// The farthest is the greatest: it is the first that a heap gives up.
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |hit: &Self| (hit.table, hit.file, hit.row);
        let near = other.score.total_cmp(&self.score);
        near.then_with(|| place(self).cmp(&place(other)))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The nearest rows so far.
struct Nearest {
    most: usize,
    hits: BinaryHeap<Hit>,
}

impl Nearest {
    fn new(most: usize) -> Self {
        Self {
            most,
            hits: BinaryHeap::with_capacity(most + 1),
        }
    }

    fn add(&mut self, hit: Hit) {
        self.hits.push(hit);
        if self.hits.len() > self.most {
            self.hits.pop();
        }
    }

    fn join(&mut self, other: Self) {
        other.hits.into_iter().for_each(|hit| self.add(hit));
    }
}

/// A table that is searched.
struct Searched {
    name: String,
    store: Store,
    files: Vec<LoggedFile>,
}

/// A chunk that was found.
struct Found {
    score: f32,
    instance: String,
    document: String,
    title: Option<String>,
    heading: Option<String>,
    page: Option<i32>,
    id: String,
    text: String,
}

/// Answers `search CONFIG WORDS`.
///
/// # Errors
/// The lake or the model cannot be read.
pub(super) fn search(
    given: &Given,
    config: &Config,
    context: &RunContext,
) -> Result<Answer, Failure> {
    let words = given.one("words").unwrap_or_default();
    let top = given.one("top").map_or(Ok(TOP), str::parse);
    let top = top.map_err(|_| Failure::usage("--top takes a whole number, such as 10"))?;
    let papers = config.papers.clone().unwrap_or_default();
    let model = Model::of(&papers);
    let query = model.embed_one(words, context)?;
    let workers = context.workers();
    let (scanned, found) = context.runtime.block_on(async {
        let tables = tables(config).await?;
        let (scanned, nearest) = scan(&tables, &query, model.name(), top.max(1), workers).await?;
        Ok::<_, Failure>((scanned, read_rows(&tables, nearest).await?))
    })?;
    Ok(Answer {
        text: render(words, scanned, &found),
        json: json!({
            "words": words,
            "chunks_scanned": scanned,
            "hits": found.iter().map(Found::json).collect::<Vec<_>>(),
        }),
        exit: Exit::Done,
    })
}

async fn tables(config: &Config) -> Result<Vec<Searched>, Failure> {
    let lake = open_lake(config)?;
    let mut tables = Vec::new();
    for name in instances(config)?.into_keys() {
        let store = lake.child(&name);
        let ledger = Ledger::open(store.clone()).await?;
        if ledger.head().is_some() {
            let files = ledger.files().await?;
            tables.push(Searched { name, store, files });
        }
    }
    if tables.is_empty() {
        let what = format!("{} holds no documents yet", lake.url());
        return Err(Failure::usage(what).hint("run paper-index first"));
    }
    Ok(tables)
}

/// The columns at these places of the table.
fn only(places: &[usize]) -> SchemaRef {
    let schema = chunks_schema();
    let fields = places
        .iter()
        .filter_map(|at| schema.fields().get(*at).cloned());
    Schema::new(fields.collect::<Vec<_>>()).into()
}

/// Looks at all vectors, a file for each core at a time.
async fn scan(
    tables: &[Searched],
    query: &[f32],
    model: &str,
    top: usize,
    cores: usize,
) -> Result<(u64, Nearest), Failure> {
    let query: Arc<[f32]> = query.into();
    let model: Arc<str> = model.into();
    let files = tables.iter().enumerate().flat_map(|(table, of)| {
        let files = of.files.iter().enumerate();
        files.map(move |(file, logged)| (table, file, of.store.objects(), logged.clone()))
    });
    let looks = files.map(|(table, file, folder, logged)| {
        let (query, model) = (Arc::clone(&query), Arc::clone(&model));
        tokio::spawn(async move {
            let wanted = only(&[columns::VECTOR, columns::MODEL]);
            let opened = TableFile::open(folder, &logged, &wanted).await?;
            scan_file(&opened, (table, file), &query, &model, top).await
        })
    });
    let mut looks = stream::iter(looks).buffer_unordered(cores);
    let (mut scanned, mut nearest) = (0, Nearest::new(top));
    while let Some(look) = looks.next().await {
        let look =
            look.map_err(|error| Failure::failed(format!("a search ended early: {error}")))?;
        let (seen, hits) = look.map_err(|error| unreadable(&error))?;
        scanned += seen;
        nearest.join(hits);
    }
    Ok((scanned, nearest))
}

async fn scan_file(
    file: &TableFile,
    (table, number): (usize, usize),
    query: &[f32],
    model: &str,
    top: usize,
) -> Result<(u64, Nearest), LakeReadError> {
    let (mut scanned, mut first, mut nearest) = (0, 0, Nearest::new(top));
    for group in 0..file.row_groups() {
        let mut batches = file.rows(group, ROWS_AT_ONCE)?;
        while let Some(batch) = batches.try_next().await? {
            let vectors = batch
                .columns()
                .first()
                .and_then(|one| one.as_list_opt::<i32>());
            let models = batch
                .columns()
                .get(1)
                .and_then(|one| one.as_string_opt::<i32>());
            if let (Some(vectors), Some(models)) = (vectors, models) {
                for row in 0..batch.num_rows() {
                    let of_model = models.is_valid(row) && models.value(row) == model;
                    if let Some(score) = score(vectors, row, query).filter(|_| of_model) {
                        scanned += 1;
                        nearest.add(Hit {
                            score,
                            table,
                            file: number,
                            row: first + row as u64,
                        });
                    }
                }
            }
            first += batch.num_rows() as u64;
        }
    }
    Ok((scanned, nearest))
}

/// How near a vector is; both have length one.
fn score(vectors: &ListArray, row: usize, query: &[f32]) -> Option<f32> {
    if vectors.is_null(row) {
        return None;
    }
    let offsets = vectors.offsets();
    let (from, to) = (offsets.get(row)?, offsets.get(row + 1)?);
    let range = usize::try_from(*from).ok()?..usize::try_from(*to).ok()?;
    let numbers = vectors.values().as_primitive_opt::<Float32Type>()?.values();
    let vector = numbers
        .get(range)
        .filter(|vector| vector.len() == query.len())?;
    Some(dot(vector, query))
}

/// Sixteen sums side by side, which the compiler keeps in wide registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a
        .remainder()
        .iter()
        .zip(b.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The rows of the nearest, the nearest first.
async fn read_rows(tables: &[Searched], nearest: Nearest) -> Result<Vec<Found>, Failure> {
    let hits = nearest.hits.into_sorted_vec();
    let mut found = Vec::with_capacity(hits.len());
    for hit in hits {
        let table = tables.get(hit.table);
        let file = table.and_then(|table| Some((table, table.files.get(hit.file)?)));
        if let Some((table, file)) = file {
            found.extend(
                read_row(table, file, hit)
                    .await
                    .map_err(|error| unreadable(&error))?,
            );
        }
    }
    Ok(found)
}

async fn read_row(
    table: &Searched,
    file: &LoggedFile,
    hit: Hit,
) -> Result<Option<Found>, LakeReadError> {
    let wanted = only(&[
        columns::DOCUMENT,
        columns::TITLE,
        columns::HEADING,
        columns::PAGE,
        columns::ID,
        columns::TEXT,
    ]);
    let file = TableFile::open(table.store.objects(), file, &wanted).await?;
    let mut first = 0;
    for group in 0..file.row_groups() {
        let rows = file.row_count(group);
        if hit.row >= first + rows {
            first += rows;
            continue;
        }
        let mut batches = file.rows(group, ROWS_AT_ONCE)?;
        while let Some(batch) = batches.try_next().await? {
            let after = first + batch.num_rows() as u64;
            if hit.row < after {
                let row = usize::try_from(hit.row - first).unwrap_or(usize::MAX);
                return Ok(Some(Found::of(&batch, row, hit.score, &table.name)));
            }
            first = after;
        }
    }
    Ok(None)
}

impl Found {
    fn of(batch: &RecordBatch, row: usize, score: f32, instance: &str) -> Self {
        let text = |at: usize| {
            let column = batch.columns().get(at)?.as_string_opt::<i32>()?;
            (row < column.len() && column.is_valid(row)).then(|| column.value(row).to_owned())
        };
        let page = batch
            .columns()
            .get(3)
            .and_then(|page| page.as_primitive_opt::<Int32Type>());
        let page = page
            .filter(|page| page.is_valid(row))
            .map(|page| page.value(row));
        Self {
            score,
            instance: instance.to_owned(),
            document: text(0).unwrap_or_default(),
            title: text(1),
            heading: text(2),
            page,
            id: text(4).unwrap_or_default(),
            text: text(5).unwrap_or_default(),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "score": self.score,
            "instance": self.instance,
            "document": self.document,
            "title": self.title,
            "heading": self.heading,
            "page": self.page,
            "id": self.id,
            "text": self.text,
        })
    }

    fn render(&self, place: usize) -> String {
        let page = self
            .page
            .map_or(String::new(), |page| format!(", page {page}"));
        let (title, heading) = (self.title.as_deref(), self.heading.as_deref());
        // A document's first heading is often its title.
        let title = title.filter(|title| !heading.unwrap_or_default().starts_with(title));
        let above: Vec<&str> = title.into_iter().chain(heading).collect();
        let above = match above.is_empty() {
            true => String::new(),
            false => format!("   {}\n", above.join(" > ")),
        };
        let words: Vec<&str> = self.text.split_whitespace().collect();
        let text = words.join(" ");
        let cut: String = text.chars().take(SHOWN).collect();
        let dots = if cut.len() < text.len() { "..." } else { "" };
        format!(
            "{place}. {:.3}  {}: {}{page}\n{above}   {cut}{dots}\n",
            self.score, self.instance, self.document
        )
    }
}

fn render(words: &str, scanned: u64, found: &[Found]) -> String {
    let hits = (1..).zip(found).map(|(place, hit)| hit.render(place));
    let hits: Vec<String> = hits.collect();
    let all = highwater::telemetry::units::counted(scanned, "chunk");
    format!("{}\n\"{words}\" beside {all}\n", hits.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_stay_and_come_first() {
        let mut nearest = Nearest::new(3);
        for (row, score) in [0.1, 0.9, 0.5, 0.7, 0.2, 0.9].into_iter().enumerate() {
            nearest.add(Hit {
                score,
                table: 0,
                file: 0,
                row: row as u64,
            });
        }
        let rows: Vec<u64> = nearest
            .hits
            .into_sorted_vec()
            .iter()
            .map(|hit| hit.row)
            .collect();
        assert_eq!(rows, [1, 5, 3]);
    }

    #[test]
    fn a_product_has_all_its_parts() {
        let a: Vec<f32> = (0..37_u8).map(f32::from).collect();
        let b: Vec<f32> = (0..37_u8).map(|n| f32::from(n % 3)).collect();
        let expected: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        assert!((dot(&a, &b) - expected).abs() < 1e-3);
    }
}
