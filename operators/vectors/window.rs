//! The chunks of one batch on their way to their vectors.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Float32Builder, ListBuilder, RecordBatch};
use arrow::datatypes::{Float32Type, Int32Type};
use arrow::error::ArrowError;

use super::aside::{SetAside, set_aside};
use super::cache::{Hash, Known, Vector, VectorCache};
use super::index::Place;
use super::rows::{element, hash_of};
use crate::ingest::documents::columns;

/// A chunk that has no vector yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open {
    row: usize,
    hash: Hash,
    tokens: usize,
}

/// What is to be done next for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Vectors are to be read from the table.
    Fetch,
    /// Texts are to be embedded.
    Embed,
    /// All that is missing is being made by others.
    WaitForOthers,
    /// It is whole.
    Close,
}

/// What is still to be done before a batch is whole.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// To be embedded here, the shortest last.
    to_embed: Vec<Open>,
    /// To be read from the table.
    stored: Vec<(Open, Place)>,
    /// Embedded by others.
    theirs: Vec<Open>,
    /// What was found, by row.
    found: HashMap<usize, Vector>,
    /// Rows whose texts never get a vector, and why.
    refused: BTreeMap<usize, Arc<str>>,
    /// How many had no vector, and how many of these the model made one of.
    opened: usize,
    made: usize,
}

impl Window {
    /// Looks at all rows that have a text and no vector.
    pub(super) fn open(rows: &RecordBatch, cache: &VectorCache) -> Self {
        let mut window = Self::default();
        for open in open_rows(rows) {
            window.opened += 1;
            window.take(open, cache.resolve(open.hash));
        }
        window.sort();
        window
    }

    fn take(&mut self, open: Open, known: Known) {
        match known {
            Known::Here(vector) => {
                self.found.insert(open.row, vector);
            }
            Known::Stored(place) => self.stored.push((open, place)),
            Known::Yours => self.to_embed.push(open),
            Known::Theirs => self.theirs.push(open),
            Known::Refused(why) => {
                self.refused.insert(open.row, why);
            }
        }
    }

    /// Texts of like length stand together: the model fills up less.
    fn sort(&mut self) {
        self.to_embed
            .sort_unstable_by_key(|open| std::cmp::Reverse(open.tokens));
    }

    /// For how many chunks a vector was found.
    pub(super) fn found(&self) -> u64 {
        self.opened.saturating_sub(self.made + self.refused.len()) as u64
    }

    /// What is to be read from the table, once.
    pub(super) fn take_stored(&mut self) -> Vec<(Open, Place)> {
        std::mem::take(&mut self.stored)
    }

    /// What was read from the table. What was not there is looked for anew.
    pub(super) fn fetched(
        &mut self,
        wanted: &[(Open, Place)],
        vectors: &HashMap<Hash, Vector>,
        cache: &VectorCache,
    ) {
        for (open, _) in wanted {
            let known = match vectors.get(&open.hash) {
                Some(vector) => Known::Here(Arc::clone(vector)),
                None => cache.resolve_beside_table(open.hash),
            };
            self.take(*open, known);
        }
        self.sort();
    }

    /// The next chunks for the model: at most so many, and about so many tokens.
    pub(super) fn next_for_the_model(&mut self, most: usize, most_tokens: usize) -> Vec<Open> {
        let mut tokens = 0;
        let mut taken = Vec::new();
        while let Some(open) = self.to_embed.last() {
            tokens += open.tokens;
            if !taken.is_empty() && (tokens > most_tokens || taken.len() >= most) {
                break;
            }
            taken.extend(self.to_embed.pop());
        }
        taken
    }

    /// A vector was made.
    pub(super) fn embedded(&mut self, open: Open, vector: Vector) {
        self.made += 1;
        self.found.insert(open.row, vector);
    }

    /// A text never gets a vector.
    pub(super) fn refused(&mut self, open: Open, why: Arc<str>) {
        self.refused.insert(open.row, why);
    }

    /// What was to be embedded here will not be.
    pub(super) fn give_up(&mut self, cache: &VectorCache) {
        for open in self.to_embed.drain(..) {
            cache.give_up(open.hash);
        }
    }

    /// Looks for what others make.
    pub(super) fn look_for_theirs(&mut self, cache: &VectorCache) {
        let theirs = std::mem::take(&mut self.theirs);
        for open in theirs {
            // Between being made and being asked for it may have gone to the table.
            self.take(open, cache.resolve(open.hash));
        }
    }

    /// What is to be done next.
    pub(super) fn next(&self) -> Next {
        match (
            self.stored.is_empty(),
            self.to_embed.is_empty(),
            self.theirs.is_empty(),
        ) {
            (false, ..) => Next::Fetch,
            (_, false, _) => Next::Embed,
            (.., false) => Next::WaitForOthers,
            _ => Next::Close,
        }
    }

    /// The batch with all its vectors; a document of which a text was refused is set aside.
    ///
    /// # Errors
    /// The columns do not fit together: an error of ours.
    pub(super) fn close(
        self,
        rows: &RecordBatch,
    ) -> Result<(RecordBatch, Vec<SetAside>), ArrowError> {
        let rows = self.with_vectors(rows)?;
        match self.refused.is_empty() {
            true => Ok((rows, Vec::new())),
            false => set_aside(&rows, &self.refused),
        }
    }

    fn with_vectors(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.found.is_empty() {
            return Ok(rows.clone());
        }
        let mut all: Vec<ArrayRef> = rows.columns().to_vec();
        let vectors = all.get_mut(columns::VECTOR);
        let vectors =
            vectors.ok_or_else(|| ArrowError::SchemaError("chunks have no vectors".to_owned()))?;
        *vectors = self.filled(vectors);
        RecordBatch::try_new(rows.schema(), all)
    }

    fn filled(&self, vectors: &ArrayRef) -> ArrayRef {
        let old = vectors.as_list_opt::<i32>();
        let mut lists = ListBuilder::new(Float32Builder::new()).with_field(element());
        for row in 0..vectors.len() {
            if let Some(vector) = self.found.get(&row) {
                lists.values().append_slice(vector);
                lists.append(true);
                continue;
            }
            let old = old
                .filter(|old| old.is_valid(row))
                .map(|old| old.value(row));
            let old = old
                .as_ref()
                .and_then(|old| old.as_primitive_opt::<Float32Type>());
            if let Some(old) = old {
                lists.values().append_slice(old.values());
            }
            lists.append(old.is_some());
        }
        Arc::new(lists.finish())
    }
}

impl Open {
    /// The row of the batch.
    pub(super) fn row(&self) -> usize {
        self.row
    }

    /// The hash of the text.
    pub(super) fn hash(&self) -> Hash {
        self.hash
    }
}

fn open_rows(rows: &RecordBatch) -> Vec<Open> {
    let column = |at: usize| rows.columns().get(at);
    let vectors = column(columns::VECTOR);
    let hashes = column(columns::HASH).and_then(|hashes| hashes.as_string_opt::<i32>());
    let tokens = column(columns::TOKENS);
    let tokens = tokens.and_then(|tokens| tokens.as_primitive_opt::<Int32Type>());
    let (Some(vectors), Some(hashes), Some(tokens)) = (vectors, hashes, tokens) else {
        return Vec::new();
    };
    let without = (0..rows.num_rows()).filter(|row| vectors.is_null(*row) && hashes.is_valid(*row));
    let open = without.filter_map(|row| {
        Some(Open {
            row,
            hash: hash_of(hashes.value(row))?,
            tokens: usize::try_from(tokens.value(row)).unwrap_or(0),
        })
    });
    open.collect()
}

/// The text of a row.
pub(super) fn text(rows: &RecordBatch, row: usize) -> &str {
    let texts = rows.columns().get(columns::TEXT);
    let texts = texts.and_then(|texts| texts.as_string_opt::<i32>());
    let texts = texts.filter(|texts| row < texts.len() && texts.is_valid(row));
    texts.map_or("", |texts| texts.value(row))
}
