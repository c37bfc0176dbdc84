//! Sources: one file or folder each. To add one, implement
//! [`highwater::source::Source`] and name it in [`open`](self).

pub mod postgres;
pub mod sqlite;
