//! One run, from configuration to report.

pub mod config;
pub mod failure;
mod failures;
pub mod load_config;
pub mod mirror;
pub mod prepare;
pub mod publish;
pub mod report;
pub mod schedule;
pub mod secret;
pub mod stages;
pub mod status;
pub mod template;

pub use config::{Compression, Config, OnBadRow, PartitionBy, TableConfig};
pub use failure::{Exit, Failure};
pub use report::{PlanReport, RunReport, StatusReport};
pub use secret::Secret;
pub use template::Template;
