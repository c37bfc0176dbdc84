//! The commit log of one dataset (to come).

mod data_file;

pub use data_file::DataFile;
