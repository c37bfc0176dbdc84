//! Small objects as rows of a table, a few thousand to a file, and objects again.
//!
//! A packed table holds each object with its name, size, time, tag and content, in
//! the order of keys; its files do not overlap. So a file stands for a range of
//! keys: where nothing in it has changed it stays, where something has it is
//! written anew, with what is unchanged taken from the old one.
//!
//! | file | what it holds |
//! |---|---|
//! | `rows` | the columns; rows as objects and back |
//! | `groups` | row groups that are in memory, for whoever asks for one object |
//! | `listing` | what a packed table holds, page by page |
//! | `objects` | [`PackedObjects`]: a packed table as a place of objects |
//! | `reading` | objects become rows |
//! | `merge` | a listing beside the rows of a file: what becomes of each key |
//! | `rewrite` | [`PackRanges`]: ranges of a packed table as they are to be |

mod groups;
mod listing;
mod merge;
mod objects;
mod reading;
mod rewrite;
mod rows;
#[cfg(test)]
mod tests;

pub(crate) use objects::unreadable;
pub(crate) use rows::{is_same, listed};

pub use objects::PackedObjects;
pub use rewrite::{PackPlan, PackRanges};
pub use rows::packed_schema;
