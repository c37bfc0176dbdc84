//! [`Order`]: which row comes before which, and which rows stand for the same thing.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::Rows;
use serde::{Deserialize, Serialize};

use super::keys::{Encoder, Keys};
use super::zorder::{Ranks, ZOrder};

/// One column to sort by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortColumn {
    /// Its name.
    pub name: String,
    /// Whether the greatest value comes first.
    pub descending: bool,
}

/// Of rows with the same key only the one with the greatest version is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// The key columns.
    pub key: Vec<String>,
    /// The version column; NULL is the least version.
    pub version: String,
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSpec {
    /// Columns that come before all others: rows are cut where one changes.
    pub cut: Vec<String>,
    /// Columns to sort by, the most important first.
    pub sort: Vec<SortColumn>,
    /// Columns to Z-order by, instead.
    pub z: Vec<String>,
    /// Which rows are dropped.
    pub newest: Option<Newest>,
}

impl OrderSpec {
    /// The columns that decide.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let sort = self.sort.iter().map(|column| &column.name);
        let newest = self.newest.iter();
        let newest = newest.flat_map(|newest| newest.key.iter().chain([&newest.version]));
        let all = self.cut.iter().chain(sort).chain(&self.z).chain(newest);
        all.map(String::as_str)
    }

    /// What a Z-order of rows of `schema` needs to know of them; `sample` holds
    /// some.
    ///
    /// # Errors
    /// A column does not exist, or cannot be sorted by. In words.
    pub fn ranks(&self, schema: &SchemaRef, sample: &[RecordBatch]) -> Result<Ranks, String> {
        let columns = self.z.iter().map(|name| position(schema, name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ranks::new(schema, &columns, sample).map_err(refused)
    }
}

fn position(schema: &SchemaRef, name: &str) -> Result<usize, String> {
    let found = schema.column_with_name(name).map(|(position, _)| position);
    found.ok_or_else(|| format!("there is no column {name}"))
}

fn refused(error: ArrowError) -> String {
    format!("rows cannot be put in that order: {error}")
}

/// Which row comes before which. Equal keys of a [`Newest`] are neighbours, the
/// greatest version first.
#[derive(Debug)]
pub struct Order {
    z: Option<ZOrder>,
    /// Decides where a row goes: rows that must meet have the same.
    route: Encoder,
    /// Decides the order.
    full: Encoder,
    key: Option<Encoder>,
    cut: Option<Encoder>,
}

impl Order {
    /// The order that `spec` asks for, of rows of `schema`. A Z-order needs
    /// `ranks`; without them it can only be checked.
    ///
    /// # Errors
    /// A column does not exist, or cannot be sorted by; the key of the newest
    /// rows does not lead the order. In words.
    pub fn new(schema: &SchemaRef, spec: &OrderSpec, ranks: Ranks) -> Result<Self, String> {
        let find = |name: &String| position(schema, name);
        let up = |names: &[String]| -> Result<Vec<(usize, bool)>, String> {
            names.iter().map(|name| Ok((find(name)?, false))).collect()
        };
        let cut = up(&spec.cut)?;
        let mut route = cut.clone();
        for column in &spec.sort {
            route.push((find(&column.name)?, column.descending));
        }
        let z = up(&spec.z)?;
        let mut full = route.clone();
        let mut key = None;
        if let Some(newest) = &spec.newest {
            let names = up(&newest.key)?;
            let led = led_by_key(&route, &z, &names, cut.len())?;
            route.truncate(cut.len() + led);
            for column in &names {
                if !route.iter().any(|(known, _)| *known == column.0) {
                    route.push(*column);
                }
            }
            full = route.clone();
            full.push((find(&newest.version)?, true));
            key = Some(names);
        }
        let encoder = |columns: &[(usize, bool)]| Encoder::new(schema, columns).map_err(refused);
        let positions: Vec<usize> = z.iter().map(|(column, _)| *column).collect();
        let z = (!z.is_empty()).then(|| ZOrder::new(schema, &positions, ranks));
        Ok(Self {
            z: z.transpose().map_err(refused)?,
            route: encoder(&route)?,
            full: encoder(&full)?,
            key: key.map(|key| encoder(&key)).transpose()?,
            cut: (!cut.is_empty()).then(|| encoder(&cut)).transpose()?,
        })
    }

    /// Whether rows with the same key may lie apart: nothing else decides their
    /// order, and all of them stay. Of the versions of a key all must meet.
    pub(super) fn divides_equals(&self) -> bool {
        self.key.is_none() && (self.z.is_none() || self.full.is_empty())
    }

    /// The columns whose encoding is kept whole beside each row's prefix.
    pub(super) fn kept_whole(&self) -> &[usize] {
        self.full.kept_whole()
    }

    /// The keys that decide where rows of a section go.
    pub(super) fn route(&self, section: u32, batch: &RecordBatch) -> Result<Keys, ArrowError> {
        match &self.z {
            Some(z) => z.keys(section, batch),
            None => self.route.keys(section, batch),
        }
    }

    /// The keys that decide the order of rows of a section.
    pub(super) fn keys(&self, section: u32, batch: &RecordBatch) -> Result<Keys, ArrowError> {
        let Some(z) = &self.z else {
            return self.full.keys(section, batch);
        };
        let mut keys = z.keys(section, batch)?;
        if !self.full.is_empty() {
            keys.rest = Some(self.full.rows(batch)?);
        }
        Ok(keys)
    }

    /// The keys of which only the newest row is wanted.
    pub(super) fn newest(&self, batch: &RecordBatch) -> Option<Result<Rows, ArrowError>> {
        self.key.as_ref().map(|key| key.rows(batch))
    }

    /// What rows are cut by.
    pub(super) fn cut(&self, batch: &RecordBatch) -> Option<Result<Rows, ArrowError>> {
        self.cut.as_ref().map(|cut| cut.rows(batch))
    }
}

/// How many of the columns to sort by are decided by the key. All that come
/// before the last column of the key must be: otherwise rows of one key would lie
/// apart.
fn led_by_key(
    route: &[(usize, bool)],
    z: &[(usize, bool)],
    key: &[(usize, bool)],
    cut: usize,
) -> Result<usize, String> {
    let in_key = |column: &(usize, bool)| key.iter().any(|(known, _)| *known == column.0);
    if !route.iter().take(cut).all(in_key) {
        return Err(
            "the newest rows by key can be told apart only within a partition: \
                    the partition columns must be part of the key"
                .to_owned(),
        );
    }
    let sort = route.get(cut..).unwrap_or_default();
    let led = sort.iter().take_while(|column| in_key(column)).count();
    let covers = key.iter().all(|(column, _)| {
        let led = sort.iter().take(led);
        led.chain(route.iter().take(cut))
            .any(|(known, _)| known == column)
    });
    if z.iter().all(in_key) && (led == sort.len() || covers) {
        return Ok(led);
    }
    Err("rows of one key must be neighbours: sort by the key's columns first".to_owned())
}
