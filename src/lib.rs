//! **Highwater** keeps a lake of compressed Parquet *equal to its sources*:
//! incrementally, exactly once, inside a hard memory limit.
//!
//! A pipeline is a dataflow whose frontier is the watermark. Sources emit Arrow
//! batches at an epoch; when the frontier at the committer passes an epoch,
//! every file of that epoch is durable, and one log entry publishes the files
//! *and* the source's new watermark together.
//!
//! This crate is the runtime. It knows batches, epochs, memory and commits; it
//! knows no database and no pipeline. Read it in this order:
//!
//! | module | what lives there |
//! |---|---|
//! | [`dataset`] | tables, columns and their exact source types |
//! | [`source`] | what a source must offer: identity, discovery, snapshot, splits, readers |
//! | [`batch`], [`budget`] | Arrow columns together with the permit that pays for them |
//! | [`cancel`] | the wish that a run ends |
//! | [`watermark`] | the serialisable position of one dataset |
//! | [`store`] | a URL becomes an object store; put-if-absent with three outcomes |
//! | [`ledger`] | the commit log of one dataset: a Delta table, and the load log beside it |
//! | [`flow`] | the operators that every pipeline is made of |
//! | [`cluster`] | the workers of a run, in one process or many |
//! | [`run`] | one run, from configuration to report |
//! | [`telemetry`] | logs and progress |
//! | [`app`] | the verbs that all binaries share |

pub mod app;
pub mod batch;
pub mod budget;
pub mod cancel;
pub mod cluster;
pub mod dataset;
pub mod flow;
pub mod ledger;
pub mod run;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod watermark;
