//! What a run tells while it goes: logs, progress, and how much memory it holds.

pub mod logs;
pub mod memory;
pub mod objects;
pub mod progress;
pub mod units;

pub use progress::{Progress, TableProgress, Told};
