//! Rows of many batches, put together by where they go: each is moved once, however
//! many ranges there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat, take};
use arrow::error::ArrowError;
use highwater::batch::Batch;

use super::order::Order;
use super::ranges::{Finder, Ranges, Ties};

/// What goes to one worker: its parcels, in order, with their rows.
pub(super) struct Owner {
    pub(super) worker: usize,
    pub(super) parcels: Vec<(u32, usize)>,
    rows: usize,
}

/// Which rows go where, and how many go together.
#[derive(Default)]
pub(super) struct Parcels {
    of_rows: Vec<u32>,
    counts: BTreeMap<u32, usize>,
}

impl Parcels {
    /// Adds the rows of a batch, all of one section.
    pub(super) fn add(
        &mut self,
        order: &Order,
        finder: &Finder<'_>,
        section: u32,
        rows: &RecordBatch,
        ties: &mut Ties,
    ) -> Result<(), ArrowError> {
        let keys = order.route(section, rows)?;
        let divides_equals = order.divides_equals();
        let mut counts = vec![0; finder.len()];
        self.of_rows.extend((0..rows.num_rows()).map(|row| {
            let tie = if divides_equals { ties.next() } else { 0 };
            let range = finder.of(&keys, row, tie);
            if let Some(count) = counts.get_mut(range) {
                *count += 1;
            }
            Ranges::parcel(range, section)
        }));
        for (range, count) in counts
            .into_iter()
            .enumerate()
            .filter(|(_, count)| *count > 0)
        {
            *self
                .counts
                .entry(Ranges::parcel(range, section))
                .or_default() += count;
        }
        Ok(())
    }

    /// Who gets what, in the order of parcels.
    pub(super) fn owners(&self, ranges: &Ranges) -> Vec<Owner> {
        let mut owners: Vec<Owner> = Vec::new();
        for (&parcel, &count) in &self.counts {
            let (range, _) = ranges.of_parcel(parcel);
            let worker = ranges.worker(range);
            match owners.last_mut().filter(|last| last.worker == worker) {
                Some(last) => {
                    last.parcels.push((parcel, count));
                    last.rows += count;
                }
                None => owners.push(Owner {
                    worker,
                    parcels: vec![(parcel, count)],
                    rows: count,
                }),
            }
        }
        owners
    }

    /// The rows of all batches by owner, those of a parcel together. What leaves
    /// for one worker is one piece of memory, moved once: who is slow to take his
    /// keeps only that.
    pub(super) fn gather(
        &mut self,
        batches: &[Batch],
        owners: &[Owner],
    ) -> Result<Vec<RecordBatch>, ArrowError> {
        let places = self.places();
        let Some(first) = batches.first() else {
            return Ok(Vec::new());
        };
        let schema = first.rows.schema();
        let mut columns: Vec<Vec<ArrayRef>> = owners.iter().map(|_| Vec::new()).collect();
        for position in 0..schema.fields().len() {
            let own = batches.iter();
            let own = own.filter_map(|batch| batch.rows.columns().get(position));
            let own: Vec<&dyn Array> = own.map(AsRef::as_ref).collect();
            // A column at a time: the rows never exist three times.
            let column = concat(&own)?;
            let mut from = 0;
            for (owner, columns) in owners.iter().zip(&mut columns) {
                let places = places.slice(from, owner.rows);
                columns.push(take(&column, &places, None)?);
                from += owner.rows;
            }
        }
        let batches = owners.iter().zip(columns).map(|(owner, columns)| {
            let options = RecordBatchOptions::new().with_row_count(Some(owner.rows));
            RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)
        });
        batches.collect()
    }

    /// Where each row comes from, the parcels one after the other.
    fn places(&mut self) -> UInt32Array {
        let first = self.counts.keys().next().copied().unwrap_or_default();
        let last = self.counts.keys().next_back().copied().unwrap_or_default();
        let mut nexts = vec![0; (last - first) as usize + 1];
        let mut next = 0;
        for (parcel, count) in &self.counts {
            if let Some(own) = nexts.get_mut((parcel - first) as usize) {
                *own = next;
            }
            next += count;
        }
        let mut places = vec![0; self.of_rows.len()];
        for (row, parcel) in (0_u32..).zip(std::mem::take(&mut self.of_rows)) {
            if let Some(next) = nexts.get_mut((parcel - first) as usize) {
                if let Some(place) = places.get_mut(*next) {
                    *place = row;
                }
                *next += 1;
            }
        }
        UInt32Array::from(places)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::sort::zorder::Ranks;
    use arrow::array::{AsArray as _, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use highwater::budget::Permit;

    use super::super::order::{OrderSpec, SortColumn};
    use super::super::ranges::{Cutting, SectionShare};
    use super::*;

    fn batch(numbers: impl Iterator<Item = i64> + Clone) -> Batch {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
            numbers.clone().map(|n| n.to_string()),
        ));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
        Batch {
            table: 0,
            split: 0,
            source_bytes: 0,
            rows: RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).unwrap(),
            permit: Permit::free(),
        }
    }

    #[test]
    fn each_row_goes_once_to_whoever_has_its_range() {
        let batches =
            [0, 1, 2].map(|third| batch((0..100).map(move |n| (n * 7 + third) * 31 % 300)));
        let spec = OrderSpec {
            sort: vec![SortColumn {
                name: "n".to_owned(),
                descending: false,
            }],
            ..OrderSpec::default()
        };
        let schema = batches[0].rows.schema();
        let order = Order::new(&schema, &spec, Ranks::default()).unwrap();
        let sample: Vec<_> = batches
            .iter()
            .map(|batch| (0, batch.rows.clone()))
            .collect();
        let cutting = Cutting {
            workers: 3,
            least_bytes: 1,
            range_bytes: 40,
        };
        let ranges = Ranges::cut(&order, &sample, &[SectionShare { bytes: 300 }], cutting).unwrap();
        let (finder, mut ties) = (ranges.finder(), Ties::default());
        let mut parcels = Parcels::default();
        for batch in &batches {
            parcels
                .add(&order, &finder, 0, &batch.rows, &mut ties)
                .unwrap();
        }
        let owners = parcels.owners(&ranges);
        let gathered = parcels.gather(&batches, &owners).unwrap();
        let workers: Vec<usize> = owners.iter().map(|owner| owner.worker).collect();
        assert_eq!(workers, [0, 1, 2]);
        let (mut seen, mut before) = (Vec::new(), None);
        for (owner, rows) in owners.iter().zip(gathered) {
            let numbers = rows.column(0).as_primitive::<Int64Type>();
            let texts = rows.column(1).as_string::<i32>();
            let mut own = numbers.values().iter().zip(texts);
            for &(parcel, count) in &owner.parcels {
                let (range, section) = ranges.of_parcel(parcel);
                assert_eq!((section, ranges.worker(range)), (0, owner.worker));
                let part: Vec<i64> = own
                    .by_ref()
                    .take(count)
                    .inspect(|(n, text)| assert_eq!(Some(n.to_string().as_str()), *text))
                    .map(|(n, _)| *n)
                    .collect();
                // A range begins where the one before it ends, or with the same key.
                assert!(before <= part.iter().min().copied(), "{before:?} {part:?}");
                before = part.iter().max().copied();
                seen.extend(part);
            }
            assert_eq!(own.next(), None);
        }
        let mut expected: Vec<i64> = batches
            .iter()
            .flat_map(|batch| batch.rows.column(0).as_primitive::<Int64Type>().values())
            .copied()
            .collect();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }
}
