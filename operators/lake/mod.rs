//! Files of a lake as batches, for every operator that reads them back.
//!
//! Nothing here decides what is read or when: an operator opens a file of the
//! log and takes its row groups, one at a time, in the columns it wants.

mod keyed;
mod rows;

pub use keyed::KeyedTable;
pub(crate) use keyed::{RowBatches, all_rows};
pub use rows::{LakeReadError, SMALL_BYTES, TableFile};
