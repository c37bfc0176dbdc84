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
//! all is sorted by runs that are merged. A key with half of the rows is divided
//! among ranges as any other stretch of rows, unless its versions must meet.
//!
//! Nothing here knows a table or where rows go: batches come in and go out. Each
//! split is of a *section*: sections follow each other in the output, and rows of
//! two sections never share a batch. Between [`scatter`](mod@scatter) and
//! [`sort`](mod@operator) a batch's `split` tells its range and its section; in the
//! output it is the section.

mod dense;
mod heap;
pub mod keys;
mod last;
mod loaded;
mod merge;
pub mod operator;
pub mod order;
mod parcels;
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
pub use zorder::Ranks;
