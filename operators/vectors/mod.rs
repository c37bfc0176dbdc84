//! Vectors by the text that they were made of, so that no text is embedded twice.
//!
//! A table of the lake holds the vector of each text that was ever embedded, by the hash
//! of the text and the name of the model. It is written while a run goes on, every few
//! seconds, whatever becomes of the run: what a killed run has embedded is not lost. The
//! operator here gives each chunk its vector: one that is known, or a new one. Where
//! texts come from is not known here.
//!
//! The table is no truth: what cannot be read of it is made again.
//!
//! | file | what it holds |
//! |---|---|
//! | `rows` | the columns of the table |
//! | `index` | where in the table which vector is |
//! | `room` | what new vectors may take until the table has them |
//! | `cache` | [`VectorCache`]: who has a vector, who makes it, who waits for it |
//! | `stored` | what it reads of the table |
//! | `window` | the chunks of one batch on their way to their vectors |
//! | `aside` | documents of which a text never gets one |
//! | `fresh` | new vectors of a worker on their way into the table |
//! | `turn` | the batch whose turn it is, and what a task was asked for it |
//! | `filling` | what a worker does at a turn |
//! | `answers` | what it hears of the vectors that it asked for |
//! | `operator` | [`fill_vectors`] |
//! | `join` | [`join_small`]: many small files of the table become few |

mod answers;
mod aside;
mod cache;
mod filling;
mod fresh;
mod index;
mod join;
mod operator;
mod room;
mod rows;
mod stored;
#[cfg(test)]
mod tests;
mod turn;
mod window;

pub use cache::{CacheLimits, Hash, VectorCache};
pub use join::{JoinError, Joined, join_small};
pub use operator::{FillVectors, Filled, fill_vectors};
pub use rows::vectors_schema;
