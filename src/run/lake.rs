//! The lake of a configuration, and the tables that are wanted of it: what verbs
//! need that ask the lake alone.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::config::Config;
use super::failure::Failure;
use super::prepare::folder_table;
use super::status::table_folders;
use crate::dataset::TableName;
use crate::store::Store;

/// Opens the lake that `config` names.
///
/// # Errors
/// Its URL or an option is not valid.
pub fn open_lake(config: &Config) -> Result<Store, Failure> {
    let options = config.store.iter();
    let options = options
        .map(|(key, value)| (key.clone(), value.expose().to_owned()))
        .collect();
    Ok(Store::open(&config.lake, &options)?)
}

/// A table of the lake.
#[derive(Debug, Clone)]
pub struct LakeTable {
    /// Its name as it is displayed.
    pub name: String,
    /// Its name in the source.
    pub source_name: TableName,
    /// Its folder.
    pub store: Store,
}

/// The tables whose names match one of `globs`, all where there is none.
///
/// # Errors
/// The lake cannot be listed; no table matches.
pub async fn lake_tables(lake: &Store, globs: &[String]) -> Result<Vec<LakeTable>, Failure> {
    let wanted = Wanted::new(globs)?;
    let folders = table_folders(lake).await?;
    let tables = folders.into_iter().map(|folder| LakeTable {
        name: folder_table(&folder),
        source_name: source_name(&folder),
        store: lake.child(&folder),
    });
    let tables: Vec<LakeTable> = tables.filter(|table| wanted.takes(&table.name)).collect();
    if tables.is_empty() && !globs.is_empty() {
        let failure = Failure::usage(format!("no table of {} matches", lake.url()));
        return Err(failure.because(globs.join(", ")).hint("see `status`"));
    }
    Ok(tables)
}

/// The name of the table in `folder`, which has its schema before a slash.
fn source_name(folder: &str) -> TableName {
    match folder.split_once('/') {
        Some((schema, name)) => TableName {
            schema: Some(folder_table(schema)),
            name: folder_table(name),
        },
        None => TableName {
            schema: None,
            name: folder_table(folder),
        },
    }
}

/// Which tables are meant. Globs of tables: one without a dot matches a table's own name in any schema.
pub struct Wanted {
    full: GlobSet,
    own: GlobSet,
    all: bool,
}

impl Wanted {
    /// The tables that match one of `globs`, all where there is none.
    ///
    /// # Errors
    /// A glob is none.
    pub fn new(globs: &[String]) -> Result<Self, Failure> {
        let (full, own): (Vec<&String>, Vec<&String>) =
            globs.iter().partition(|glob| glob.contains('.'));
        Ok(Self {
            full: set(&full)?,
            own: set(&own)?,
            all: globs.is_empty(),
        })
    }

    /// Whether the table of this name is among them.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        let own = name.split_once('.').map_or(name, |(_, own)| own);
        self.all || self.full.is_match(name) || self.own.is_match(own)
    }
}

fn set(globs: &[&String]) -> Result<GlobSet, Failure> {
    let mut set = GlobSetBuilder::new();
    let wrong = |error: globset::Error| Failure::usage("--table").caused_by(&error);
    for glob in globs {
        set.add(Glob::new(glob).map_err(wrong)?);
    }
    set.build().map_err(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_glob_without_a_dot_is_about_the_tables_own_name() {
        let takes = |glob: &str, name| Wanted::new(&[glob.to_owned()]).unwrap().takes(name);
        assert!(takes("orders", "public.orders") && takes("orders", "orders"));
        assert!(takes("sales.*", "sales.orders") && !takes("sales.*", "public.orders"));
        assert!(!takes("orders", "public.orders_old") && takes("o*", "public.orders_old"));
        assert!(Wanted::new(&[]).unwrap().takes("anything"));
    }
}
