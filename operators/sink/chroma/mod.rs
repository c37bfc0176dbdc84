//! A ChromaDB server, spoken to over HTTP.
//!
//! The vector store is a copy of what the lake holds: written after the lake's commit,
//! repeated without harm, rebuilt where it was lost. Everything in here may therefore be
//! sent twice, and is, when an answer does not come. Which points belong into a
//! collection, and when, is decided elsewhere; no other operator's types may enter.
//!
//! | file | what it holds |
//! |---|---|
//! | `client` | [`Chroma`]: a server, its tenant and database |
//! | `address` | URLs of servers |
//! | `collection` | [`Collection`]: metadata, count, upsert, delete, get |
//! | `batch` | points to requests no larger than the server takes |
//! | `pages` | [`Pages`]: all ids, page by page |
//! | `reconcile` | [`Expected`]: what a collection has and should not, and the reverse |
//! | `error` | [`ChromaError`] |

mod address;
mod batch;
mod client;
mod collection;
mod error;
mod pages;
mod reconcile;

pub use batch::Point;
pub use client::{Chroma, ChromaOptions};
pub use collection::{Collection, Record};
pub use error::ChromaError;
pub use pages::Pages;
pub use reconcile::{Expected, Reconciled};
