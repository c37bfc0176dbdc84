//! The collection, and what it says of itself.

use std::sync::{Mutex, PoisonError};

use highwater::app::{Failure, RunContext};
use highwater_operators::service::Credentials;
use highwater_operators::sink::chroma::{Chroma, ChromaError, ChromaOptions, Collection, Expected};
use serde_json::{Map, Value};

use super::super::instance::Instance;
use super::points::OwnedPoint;

/// Of which table the collection is the equal.
const LAKE: &str = "highwater_lake";

/// Of which version of it; -1 while it is of none.
const VERSION: &str = "highwater_version";

/// How many chunks that version has.
const POINTS: &str = "highwater_points";

/// Whether a run is on its way to another version.
const UNDER_WAY: &str = "highwater_under_way";

/// A collection that is written.
pub(super) struct Target {
    collection: Mutex<Collection>,
    lake: String,
}

/// What a collection says of itself, and how many chunks it really has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    lake: Option<String>,
    version: Option<u64>,
    points: Option<u64>,
    under_way: bool,
    counted: u64,
}

fn failure(error: ChromaError) -> Failure {
    let what = error.to_string();
    match error.passes() {
        true => Failure::retry(what),
        false => Failure::failed(what),
    }
}

impl Target {
    /// What the collection of an instance is called.
    pub(super) fn name(instance: &Instance) -> String {
        let named = instance.config.collection.clone();
        named.unwrap_or_else(|| instance.name.clone())
    }

    /// Opens the collection for the table `lake`, and makes it where there is none.
    ///
    /// # Errors
    /// The server does not answer, or does not let us.
    pub(super) fn open(
        url: &str,
        instance: &Instance,
        lake: &str,
        context: &RunContext,
    ) -> Result<Self, Failure> {
        let token = instance.config.chroma_token.clone();
        let options = ChromaOptions {
            credentials: token.map(Credentials::Bearer),
            ..ChromaOptions::default()
        };
        let name = Self::name(instance);
        let lake = lake.to_owned();
        let fresh = said(&lake, None, 0, true);
        let collection = context.runtime.block_on(async {
            let chroma = Chroma::open(url, options).await?;
            chroma.collection(&name, &fresh).await
        });
        Ok(Self {
            collection: Mutex::new(collection.map_err(failure)?),
            lake,
        })
    }

    fn collection(&self) -> Collection {
        let collection = self
            .collection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        collection.clone()
    }

    /// What the collection says of itself.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn state(&self) -> Result<State, Failure> {
        let collection = self.collection();
        let metadata = collection.metadata().cloned().unwrap_or_default();
        let number = |name: &str| metadata.get(name).and_then(Value::as_u64);
        let under_way = metadata.get(UNDER_WAY).and_then(Value::as_bool);
        Ok(State {
            lake: metadata
                .get(LAKE)
                .and_then(Value::as_str)
                .map(str::to_owned),
            version: number(VERSION),
            points: number(POINTS),
            under_way: under_way.unwrap_or(false),
            counted: self.count().await?,
        })
    }

    /// How many chunks it has.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn count(&self) -> Result<u64, Failure> {
        self.collection().count().await.map_err(failure)
    }

    /// Says that a run is on its way from the version that the collection equals; from
    /// none, where it does not equal what it says.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn begin(&self, state: &State, is_equal: bool) -> Result<(), Failure> {
        let known = state
            .version
            .filter(|_| is_equal && state.is_of(&self.lake));
        let points = state.points.unwrap_or(0);
        self.say(said(&self.lake, known, points, true)).await
    }

    /// Says which version the collection equals now.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn equals(&self, version: u64, points: u64) -> Result<(), Failure> {
        self.say(said(&self.lake, Some(version), points, false))
            .await
    }

    async fn say(&self, metadata: Map<String, Value>) -> Result<(), Failure> {
        let mut collection = self.collection();
        collection.set_metadata(metadata).await.map_err(failure)?;
        *self
            .collection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = collection;
        Ok(())
    }

    /// Writes points.
    ///
    /// # Errors
    /// The server does not take them.
    pub(super) async fn upsert(&self, points: &[OwnedPoint]) -> Result<(), Failure> {
        let points: Vec<_> = points.iter().map(OwnedPoint::lent).collect();
        self.collection().upsert(&points).await.map_err(failure)
    }

    /// Removes points.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn delete(&self, ids: &[String]) -> Result<(), Failure> {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        self.collection().delete(&ids).await.map_err(failure)
    }

    /// Removes what is not expected; says how many that were.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn keep_only(&self, mut expected: Expected) -> Result<u64, Failure> {
        let reconciled = expected
            .reconcile(&self.collection())
            .await
            .map_err(failure)?;
        Ok(reconciled.deleted)
    }
}

fn said(lake: &str, version: Option<u64>, points: u64, under_way: bool) -> Map<String, Value> {
    let version = version.map_or(Value::from(-1), Value::from);
    [
        (LAKE, Value::from(lake)),
        (VERSION, version),
        (POINTS, Value::from(points)),
        (UNDER_WAY, Value::from(under_way)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

impl State {
    /// Whether it is the collection of this table.
    fn is_of(&self, lake: &str) -> bool {
        self.lake.as_deref() == Some(lake)
    }

    /// The version of the table `lake` that the collection equals, or is on its way
    /// from; `None` for a collection that is empty and of none. An error says why it has
    /// to be compared as a whole.
    pub(super) fn known(&self, lake: &str) -> Result<Option<u64>, String> {
        match (self.is_of(lake), self.version) {
            (true, Some(version)) if self.is_whole() => Ok(Some(version)),
            // Half of what lies between two versions may be there: doing all of it again
            // does no harm, and the count at the end tells whether it was enough.
            (true, Some(version)) if self.under_way && self.counted > 0 => Ok(Some(version)),
            (_, None) if self.counted == 0 => Ok(None),
            (true, None) if self.under_way => Ok(None),
            (false, _) => Err("it is of another table".to_owned()),
            (true, _) => Err(format!(
                "it holds {} chunks where it should hold {}",
                self.counted,
                self.points.unwrap_or(0)
            )),
        }
    }

    /// Whether nothing is missing of what it says, as far as a count tells.
    pub(super) fn is_whole(&self) -> bool {
        !self.under_way && self.points == Some(self.counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collection_says_decides_what_is_compared() {
        let lake = "file:///tmp/lake/x 1f3a";
        let state = State {
            lake: Some(lake.to_owned()),
            version: Some(7),
            points: Some(10),
            under_way: false,
            counted: 10,
        };
        let known = |state: &State| state.known(lake);
        assert_eq!(known(&state), Ok(Some(7)));
        let emptied = State {
            counted: 0,
            ..state.clone()
        };
        assert!(known(&emptied).is_err() && !emptied.is_whole());
        let under_way = State {
            under_way: true,
            counted: 12,
            ..state.clone()
        };
        assert_eq!(known(&under_way), Ok(Some(7)));
        assert!(!under_way.is_whole());
        let emptied_under_way = State {
            under_way: true,
            counted: 0,
            ..state.clone()
        };
        assert!(known(&emptied_under_way).is_err());
        let other = State {
            lake: Some("file:///other".to_owned()),
            ..state.clone()
        };
        assert!(known(&other).is_err());
        let new = State {
            version: None,
            points: Some(0),
            under_way: true,
            counted: 0,
            ..state
        };
        assert_eq!(known(&new), Ok(None));
    }
}
