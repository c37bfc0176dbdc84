//! Requests to services that speak JSON over HTTP: a vector store, a model behind an
//! endpoint.
//!
//! A request is sent once or until it goes well; a failure says what sort it is, so that
//! the caller can say what to do about it. Nothing in here knows what is asked.
//!
//! | file | what it holds |
//! |---|---|
//! | `client` | [`JsonClient`]: one service, its headers, its time-out |
//! | `error` | [`HttpError`] |
//! | `retry` | [`retried`]: what may be repeated is |

mod client;
mod error;
mod retry;

pub use client::{Connection, Credentials, JsonClient};
pub use error::{HttpError, HttpErrorKind};
pub use retry::retried;
