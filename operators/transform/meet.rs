//! Elements of a comparison on their way to the worker where they meet.
//!
//! Differential dataflow brings elements to their worker by itself, through
//! queues that have no bound between processes. Here they go there as batches,
//! under credit (B4), by the very hash that it uses: what is left for it to move
//! stays within a process.

use std::sync::Arc;

use arrow::array::{Array, AsArray, FixedSizeBinaryBuilder, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use differential_dataflow::Hashable;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;

use highwater::batch::Batch;
use highwater::flow::exchange::route::split_by;
use highwater::flow::{Batches, Epoch, Exchange, exchange};

use super::changes::{Count, Counted, Element};
use super::fingerprint::Hash;

const HASH_BYTES: usize = size_of::<Hash>();

/// Brings the elements of batches to the workers where they meet; each counts
/// `count`. `hash` gives the hashes of a batch's rows, key and content; a batch
/// for which it has none is passed over. Elements belong to the batch's table.
///
/// # Panics
/// Never: what this operator packs it can unpack.
pub fn meet<'scope>(
    batches: Batches<'scope>,
    plan: Exchange,
    count: Count,
    mut hash: impl FnMut(&Batch) -> Option<Vec<(Hash, Hash)>> + 'static,
) -> StreamVec<'scope, Epoch, Counted> {
    type Builder<T> = CapacityContainerBuilder<Vec<T>>;
    let peers = plan.place.peers();
    let packed =
        batches.unary::<Builder<(usize, Batch)>, _, _, _>(Pipeline, "pack_hashes", move |_, _| {
            move |input, output| {
                input.for_each(|capability, batches: &mut Vec<Batch>| {
                    let mut session = output.session(&capability);
                    for batch in batches.drain(..) {
                        let Some(hashes) = hash(&batch) else { continue };
                        match pack(batch, &hashes, peers) {
                            Ok(parts) => session.give_iterator(parts.into_iter()),
                            // Two columns of a fixed width: it does not happen.
                            Err(error) => tracing::error!(%error, "cannot pack hashes"),
                        }
                    }
                });
            }
        });
    exchange(packed, plan).unary::<Builder<Counted>, _, _, _>(
        Pipeline,
        "unpack_hashes",
        move |_, _| {
            move |input, output| {
                input.for_each(|capability, batches: &mut Vec<Batch>| {
                    let epoch = *capability.time();
                    let mut session = output.session(&capability);
                    for batch in batches.drain(..) {
                        session
                            .give_iterator(unpack(&batch).map(|element| (element, epoch, count)));
                    }
                });
            }
        },
    )
}

/// The batch with its hashes in place of its rows, divided among the workers.
fn pack(
    batch: Batch,
    hashes: &[(Hash, Hash)],
    peers: usize,
) -> Result<Vec<(usize, Batch)>, ArrowError> {
    let width = i32::try_from(HASH_BYTES).unwrap_or(i32::MAX);
    let column = || FixedSizeBinaryBuilder::with_capacity(hashes.len(), width);
    let (mut keys, mut contents) = (column(), column());
    let mut targets = Vec::with_capacity(hashes.len());
    let of = u32::try_from(batch.table).unwrap_or(u32::MAX);
    for &(key, content) in hashes {
        keys.append_value(key.to_be_bytes())?;
        contents.append_value(content.to_be_bytes())?;
        targets.push(worker_of(&Element::new(of, key, content), peers));
    }
    let field = |name| Field::new(name, DataType::FixedSizeBinary(width), false);
    let schema = Schema::new(vec![field("key"), field("content")]);
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(keys.finish()), Arc::new(contents.finish())];
    let rows = RecordBatch::try_new(Arc::new(schema), columns)?;
    split_by(Batch { rows, ..batch }, &targets)
}

/// Where differential dataflow would bring it.
fn worker_of(element: &Element, peers: usize) -> usize {
    let worker = element.hashed() % (peers.max(1) as u64);
    usize::try_from(worker).unwrap_or(0)
}

fn unpack(batch: &Batch) -> impl Iterator<Item = Element> {
    let of = u32::try_from(batch.table).unwrap_or(u32::MAX);
    let column = |at: usize| {
        let column = batch.rows.columns().get(at).cloned();
        let hashes = column.and_then(|column| column.as_fixed_size_binary_opt().cloned());
        (0..batch.rows.num_rows()).map(move |row| {
            let bytes = hashes.as_ref().map(|hashes| hashes.value(row));
            let bytes = bytes.and_then(|bytes| <[u8; HASH_BYTES]>::try_from(bytes).ok());
            Hash::from_be_bytes(bytes.unwrap_or_default())
        })
    };
    let both = column(0).zip(column(1));
    both.map(move |(key, content)| Element::new(of, key, content))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use highwater::budget::Permit;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_element_arrives_once_where_it_meets(
            hashes in proptest::collection::vec(any::<(u128, u128)>(), 0..40),
            peers in 1_usize..5,
        ) {
            let rows = RecordBatch::new_empty(Arc::new(Schema::empty()));
            let batch = Batch { table: 7, split: 0, source_bytes: 0, rows, permit: Permit::free() };
            let parts = pack(batch, &hashes, peers).unwrap();
            let mut arrived: Vec<Element> = Vec::new();
            for (worker, part) in &parts {
                for element in unpack(part) {
                    prop_assert_eq!(worker_of(&element, peers), *worker);
                    arrived.push(element);
                }
            }
            let mut sent: Vec<Element> = hashes.iter().map(|&(k, c)| Element::new(7, k, c)).collect();
            arrived.sort();
            sent.sort();
            prop_assert_eq!(arrived, sent);
        }
    }
}
