//! Plain files as targets: written under a temporary name beside their place,
//! read back, and renamed. One file for each table, in a folder for its schema.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use highwater::run::prepare::table_folder;
use highwater::source::SourceError;
use uuid::Uuid;

use super::csv::CsvFile;
use super::parquet::ParquetFile;
use super::{Restore, Tally, Target, exists, failed};

/// What writes and reads one kind of file.
pub(super) trait Format: Send {
    /// Writes rows.
    fn write(&mut self, rows: &RecordBatch) -> Result<(), SourceError>;

    /// Writes what is left, down to the disk.
    fn finish(&mut self) -> Result<(), SourceError>;

    /// Reads the file at `path` back.
    fn read_back(&self, path: &Path, tally: &mut Tally) -> Result<(), SourceError>;
}

/// A Parquet file of the lake's own types.
pub(super) fn parquet(job: &Restore, folder: &Path) -> Result<Box<dyn Target>, SourceError> {
    let schema = job.table.schema();
    let place = Place::new(job, folder, "parquet")?;
    let format = ParquetFile::create(place.create()?, &schema)?;
    Ok(FileTarget::boxed(place, schema, Box::new(format)))
}

/// A CSV file of exact texts.
pub(super) fn csv(job: &Restore, folder: &Path) -> Result<Box<dyn Target>, SourceError> {
    let names = job.table.columns.iter();
    let fields = names.map(|column| Field::new(&column.name, DataType::Utf8, true));
    let schema: SchemaRef = Schema::new(fields.collect::<Vec<_>>()).into();
    let place = Place::new(job, folder, "csv")?;
    let format = CsvFile::create(place.create()?, &schema)?;
    Ok(FileTarget::boxed(place, schema, Box::new(format)))
}

/// Where a file is, and where it will be.
struct Place {
    temporary: PathBuf,
    last: PathBuf,
    replace: bool,
    published: bool,
}

impl Place {
    fn new(job: &Restore, folder: &Path, extension: &str) -> Result<Self, SourceError> {
        let last = folder.join(format!("{}.{extension}", table_folder(&job.table.name)));
        if last.exists() && !job.replace {
            return Err(exists(last.display()));
        }
        let parent = last.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|error| broken("create", parent, &error))?;
        Ok(Self {
            temporary: parent.join(format!(".highwater-restore-{}", Uuid::now_v7())),
            last,
            replace: job.replace,
            published: false,
        })
    }

    fn create(&self) -> Result<File, SourceError> {
        File::create_new(&self.temporary).map_err(|error| broken("create", &self.temporary, &error))
    }

    /// Puts the file in its place; the folder is synced too, so that the new
    /// name outlives a loss of power.
    fn publish(&mut self) -> Result<(), SourceError> {
        let moved = if self.replace {
            fs::rename(&self.temporary, &self.last)
        } else {
            // Fails where something has come into being meanwhile.
            fs::hard_link(&self.temporary, &self.last)
        };
        match moved {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(exists(self.last.display()));
            }
            moved => moved.map_err(|error| broken("publish", &self.last, &error))?,
        }
        self.published = self.replace;
        let parent = self.last.parent().unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| broken("sync", parent, &error))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed is a hidden file without meaning.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

pub(super) fn broken(doing: &str, path: &Path, error: &std::io::Error) -> SourceError {
    failed(format!("cannot {doing} {}: {error}", path.display()))
}

/// One file on its way.
struct FileTarget {
    place: Place,
    schema: SchemaRef,
    format: Box<dyn Format>,
}

impl FileTarget {
    fn boxed(place: Place, schema: SchemaRef, format: Box<dyn Format>) -> Box<dyn Target> {
        Box::new(Self {
            place,
            schema,
            format,
        })
    }
}

#[async_trait]
impl Target for FileTarget {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn inexact(&self) -> Vec<String> {
        Vec::new()
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SourceError> {
        self.format.write(rows)
    }

    async fn read_back(&mut self, tally: &mut Tally) -> Result<(), SourceError> {
        self.format.finish()?;
        self.format.read_back(&self.place.temporary, tally)
    }

    async fn publish(mut self: Box<Self>) -> Result<(), SourceError> {
        self.place.publish()
    }
}
