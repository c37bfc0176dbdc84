//! Vectors by the text that they were made of, so that no text is embedded twice.
//!
//! A table of the lake holds the vector of each text that was ever embedded, by the hash
//! of the text and the name of the model. It is written while a run goes on, every few
//! seconds, whatever becomes of the run: what a killed run has embedded is not lost. The
//! operator here gives each chunk its vector: one that is known, or a new one. Where
//! texts come from is not known here.
//!
//! | file | what it holds |
//! |---|---|
//! | `rows` | the columns of the table |
//! | `index` | where in the table which vector is |
//! | `cache` | [`VectorCache`]: who has a vector, who makes it, who waits for it |
//! | `window` | the chunks of one batch on their way to their vectors |
//! | `operator` | [`fill_vectors`] |

mod cache;
mod index;
mod operator;
mod rows;
#[cfg(test)]
mod tests;
mod window;

pub use cache::{Hash, VectorCache};
pub use operator::{FillVectors, Filled, fill_vectors};
pub use rows::vectors_schema;
