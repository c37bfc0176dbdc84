//! Copies objects from one place to another, many at once.
//!
//! An object's bytes are paid for before they are read (B1). Small objects are
//! read and written as a whole, large ones in parts; each sort has memory and
//! slots of its own, so that neither waits for the other. How many requests are
//! on their way is found by a [`Pace`] for reading and one for writing.
//!
//! | file | what it holds |
//! |---|---|
//! | `copier` | [`CopyObjects`]; one object, from first attempt to outcome |
//! | `read` | a body, whole and checked |
//! | `small` | an object copied as a whole, or by the store itself |
//! | `large` | an object copied in parts |
//! | `lanes` | which object waits where |
//! | `share` | what pays for the objects of a batch |
//! | `operator` | [`copy_objects`] |

mod copier;
mod lanes;
mod large;
mod operator;
mod read;
mod share;
mod small;

pub use copier::{CopyObjects, Lane, Saving};
pub use operator::{Copied, copy_objects};
pub(crate) use read::Body;
pub use read::BodyReader;
