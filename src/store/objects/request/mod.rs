//! What requests to services have in common, whichever protocol they speak: an
//! exact address, a signature, one attempt, and an error that says what to do.
//! What the protocols say, and when to ask again, is not known here.
//!
//! | file | what it holds |
//! |---|---|
//! | `client` | [`Client`]: sends an [`Ask`] once |
//! | `each` | keys removed one by one |
//! | `signer` | [`Signer`]: who asks |
//! | `failure` | what an answer means that is no success |
//! | `pages` | a listing, page by page |

mod client;
mod each;
mod failure;
mod pages;
mod signer;

pub(super) use client::{Ask, Client, cannot_use, encoded, in_query};
pub(super) use each::remove_each;
pub(super) use failure::{element, header_text};
pub(super) use pages::pages;
pub(super) use signer::Signer;
