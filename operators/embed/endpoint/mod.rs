//! Vectors from an endpoint that speaks OpenAI's `POST /v1/embeddings`.
//!
//! Texts go in batches of so many texts and tokens, at no more than so many requests
//! and tokens a minute; what passes is asked again. An answer is taken only when it is
//! whole: a vector for each text, in their order, finite, of one length. The vectors of
//! a batch are handed back when it is answered, so that nothing that follows loses them.
//! Tokens are counted as the service counts them, so that a run can say what it cost.
//! Nothing in here knows a chunk or a lake.
//!
//! | file | what it holds |
//! |---|---|
//! | `client` | [`Endpoint`]: a request, batches, rates, what was used |
//! | `asking` | a window of texts: repeated, divided where one is refused, ended early |
//! | `answer` | an answer, taken only when it is whole |
//! | `embedder` | the same as whatever else embeds |
//! | `vectors` | [`Vectors`] |

mod answer;
mod asking;
mod client;
mod embedder;
#[cfg(test)]
mod tests;
mod vectors;

pub use answer::Encoding;
pub use asking::WORD;
pub use client::{Endpoint, EndpointError, EndpointOptions, Usage};
pub use vectors::Vectors;
