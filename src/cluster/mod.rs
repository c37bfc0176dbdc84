//! The workers of a run, in one process or many. What timely lacks between
//! processes (authentication, a clean death, compression, somebody who says what
//! is done next) lives here. Nothing here knows a pipeline: it moves orders as
//! bytes, and batches only as what timely writes into a link.

mod crew;

pub use crew::{Crew, CrewError, Place};
