//! A text column as a place of documents: each row is one, named by its key.
//!
//! The column is read once, in one snapshot, into a file without a name on the local
//! disk; what is in memory is a key, a hash and a place for each row. After that the rows
//! are listed and read like objects of a bucket, in the order of their keys, whatever the
//! order of the table.
//!
//! | file | what it holds |
//! |---|---|
//! | `spool` | texts on disk, and where each is |
//! | `objects` | [`TextObjects`]: a spool as a place of objects |
//! | `lake` | reads a table of a lake |
//! | `database` | reads a table of a database |

mod database;
mod lake;
mod objects;
mod spool;

pub use database::{DatabaseTexts, read_database};
pub use lake::{TextsError, read_lake};
pub use objects::TextObjects;
pub use spool::{SpoolError, TextColumns, Texts};
