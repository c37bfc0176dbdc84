//! One run, from configuration to report.

pub mod config;
pub mod failure;
pub mod load_config;
pub mod report;
pub mod secret;

pub use config::{Compression, Config, OnBadRow, PartitionBy, TableConfig};
pub use failure::{Exit, Failure};
pub use report::{PlanReport, RunReport, StatusReport};
pub use secret::Secret;
