//! How much is asked of a store at once: found, not configured.
//!
//! Requests take a [`Slot`]; how many there are follows from what is measured
//! (see `climb`). Rates that a user caps are kept by [`Rate`]; what fails for a
//! moment is tried again by [`Retries`]. Decisions are made in plain code that is
//! told the time, so that tests run on a clock of their own.
//!
//! | file | what it holds |
//! |---|---|
//! | `climb` | [`Climb`]: the number of slots |
//! | `slots` | [`Pace`]: slots to wait for |
//! | `rate` | [`Rate`]: so many bytes or requests a second |
//! | `retries` | [`Retries`]: how often and how soon again |
//! | `hedges` | [`Hedges`]: what is late is asked a second time |

mod climb;
mod hedges;
mod rate;
mod retries;
mod slots;
#[cfg(test)]
mod tests;

pub use climb::{Bounds, Climb, Step};
pub use hedges::Hedges;
pub use rate::Rate;
pub use retries::{Retries, RetryPolicy};
pub use slots::{Pace, Slot};
