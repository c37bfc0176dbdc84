//! Rows in order, within a memory share: the operators that bring rows to the
//! worker that has their key range, and sort them there, on disk where they do
//! not fit.
//!
//! ```text
//!   batches --> [scatter] --(worker, rows of one range)--> exchange --> [sort] --> batches in order
//! ```
//!
//! The key space is cut into ranges by a [`sample`](mod@sample), several for each
//! worker and small enough that one fits into memory. [`scatter`](mod@scatter)
//! divides rows by range; [`sort`](mod@operator) keeps ranges apart, in memory or
//! in spill files, and sorts one after the other. A range that is too large after
//! all (one key with half of the rows) is sorted by runs that are merged.
//!
//! Nothing here knows a table or where rows go: batches come in and go out. A
//! batch's `split` is its *section*: sections follow each other in the output,
//! and rows of two sections never share a batch.

mod dense;
mod heap;
pub mod keys;
mod last;
mod loaded;
mod merge;
pub mod operator;
pub mod order;
pub mod ranges;
pub mod sample;
pub mod scatter;
mod sorter;
pub mod spill;
#[cfg(test)]
mod tests;
mod zorder;

pub use operator::{Sort, SortCounts, Sorted, sort};
pub use order::{Newest, Order, OrderSpec, SortColumn};
pub use ranges::{Cutting, Ranges, SectionShare};
pub use sample::{Sample, sample};
pub use scatter::{Scatter, scatter};
