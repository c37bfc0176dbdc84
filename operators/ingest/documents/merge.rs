//! A listing of a range beside the documents that the lake has of it.

use std::cmp::Ordering;

use arrow::datatypes::SchemaRef;
use futures::{StreamExt as _, stream};
use highwater::store::objects::{KeyRange, Listed, ObjectError, Refused};

use super::DocumentSides;
use super::old::{OldDocument, OldDocuments};
use super::rows::{State, TOO_LARGE};
use crate::ingest::objects::{Cursor, is_same, unreadable};
use crate::lake::all_rows;
use crate::transform::extract::Reason;

/// What becomes of one document.
#[derive(Debug)]
pub(super) enum Step {
    /// It has not changed: its rows stay.
    Same(OldDocument),
    /// It is new or has changed; the rows that it had.
    Read(Listed, Option<OldDocument>),
    /// It is gone, or no longer wanted: its rows go.
    Goes(OldDocument),
}

/// Both sides of a range, merged in the order of keys.
pub(super) struct Merge<'a> {
    sides: &'a DocumentSides,
    range: KeyRange,
    source: Cursor,
    old: OldDocuments,
    refused: Vec<Refused>,
}

impl<'a> Merge<'a> {
    /// A part of the range of this number; old documents are read in the columns of
    /// `wanted`, so many rows at once.
    ///
    /// # Errors
    /// A file of the table cannot be read.
    pub(super) async fn new(
        sides: &'a DocumentSides,
        number: usize,
        range: KeyRange,
        wanted: &SchemaRef,
        rows_at_once: usize,
    ) -> Result<Self, ObjectError> {
        let files = sides.chunks.open_files(number, wanted).await;
        let files = files.map_err(|error| unreadable("", &error))?;
        let batches = stream::iter(files).flat_map(move |file| all_rows(file, rows_at_once));
        let batches = batches.boxed();
        let pages = sides.source.pages(range.clone());
        Ok(Self {
            sides,
            source: Cursor::new(pages, sides.retries.clone()).past_unreadable(),
            old: OldDocuments::new(batches, range.clone()),
            range,
            refused: Vec::new(),
        })
    }

    /// What becomes of the next document; `None` at the end of both sides.
    ///
    /// # Errors
    /// One side cannot be read.
    pub(super) async fn next(&mut self) -> Result<Option<Step>, ObjectError> {
        loop {
            let old = self.old.peek().await?;
            let source = self.source.peek(&mut self.refused).await?;
            let order = match (source, old) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(source), Some(old)) => source.key.as_str().cmp(old),
            };
            let object = (order != Ordering::Greater)
                .then(|| self.source.take())
                .flatten()
                .filter(|object| self.range.holds(&object.key))
                .filter(|object| self.sides.filter.takes(&object.key));
            let old = (order != Ordering::Less).then(|| self.old.take()).flatten();
            match (object, old) {
                (Some(object), Some(old)) if self.is_current(&object, &old.state) => {
                    return Ok(Some(Step::Same(old)));
                }
                (Some(object), old) => return Ok(Some(Step::Read(object, old))),
                // What cannot be looked at is not gone.
                (None, Some(old)) if self.is_refused(&old.state.object.key) => {
                    return Ok(Some(Step::Same(old)));
                }
                (None, Some(old)) => return Ok(Some(Step::Goes(old))),
                (None, None) => {}
            }
        }
    }

    fn is_refused(&self, key: &str) -> bool {
        self.sides.filter.takes(key) && self.source.refuses(key)
    }

    /// Whether rows were made of this object, in the way in which they would be now.
    fn is_current(&self, object: &Listed, state: &State) -> bool {
        let note = state.note.as_deref().unwrap_or_default();
        let limits = &self.sides.limits;
        // It was too large, and is no longer.
        let is_let_in = note.starts_with(TOO_LARGE) && object.bytes <= limits.file_bytes;
        !is_let_in
            && !Reason::is_overcome(note, limits)
            && is_same(object, &state.object)
            && *state.recipe == *self.sides.recipe_of(note)
            && *state.model == *self.sides.model
    }

    /// Tells of names that are no objects, once the range was merged.
    pub(super) fn tell_refused(&mut self) {
        let sides = self.sides;
        sides.filter.tell(&mut self.refused, &sides.tally);
    }
}
