//! Vectors from an endpoint that speaks OpenAI's `POST /v1/embeddings`.
//!
//! Texts go in batches of so many texts and tokens, at no more than so many requests
//! and tokens a minute; what passes is asked again. An answer is taken only when it is
//! whole: a vector for each text, in their order, finite, of one length. Tokens are
//! counted as the service counts them, so that a run can say what it cost. Nothing in
//! here knows a chunk or a lake.
//!
//! | file | what it holds |
//! |---|---|
//! | `client` | [`Endpoint`]: batches, rates, what was used |
//! | `answer` | an answer, taken only when it is whole |
//! | `embedder` | the same as whatever else embeds |
//! | `vectors` | [`Vectors`] |

mod answer;
mod client;
mod embedder;
#[cfg(test)]
mod tests;
mod vectors;

pub use answer::Encoding;
pub use client::{Endpoint, EndpointError, EndpointOptions, Usage};
pub use vectors::Vectors;
