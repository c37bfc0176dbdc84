//! One run, from configuration to report.

pub mod config;
pub mod failure;
mod failures;
pub mod lake;
pub mod load_config;
pub mod mirror;
pub mod prepare;
pub mod prune;
pub mod publish;
pub mod report;
pub mod restore;
pub mod schedule;
pub mod secret;
pub mod stages;
pub mod status;
pub mod template;
pub mod verify;

pub use config::{Compression, Config, OnBadRow, PartitionBy, TableConfig};
pub use failure::{Exit, Failure};
pub use prune::PruneOptions;
pub use report::{PlanReport, PruneReport, RestoreReport, RunReport, StatusReport, VerifyReport};
pub use restore::RestoreOptions;
pub use secret::Secret;
pub use template::Template;
pub use verify::VerifyOptions;
