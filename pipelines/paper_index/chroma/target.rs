//! The collection, and what it says of itself.

use std::sync::{Mutex, PoisonError};

use highwater::app::{Failure, RunContext};
use highwater::telemetry::units;
use highwater_operators::service::Credentials;
use highwater_operators::sink::chroma::{Chroma, ChromaError, ChromaOptions, Collection, Expected};
use serde_json::{Map, Value};

use super::super::instance::Instance;
use super::points::OwnedPoint;

/// Of which table the collection is the equal: its place, a blank, its id.
const LAKE: &str = "highwater_lake";

/// Of which version of it, or from which one a run is on its way; -1 while it is of none.
const VERSION: &str = "highwater_version";

/// How many chunks that version has.
const POINTS: &str = "highwater_points";

/// Whether a run is on its way to another version.
const UNDER_WAY: &str = "highwater_under_way";

/// To which versions runs were on their way since the collection was the equal of one,
/// with blanks between them.
const TOWARDS: &str = "highwater_towards";

/// With more versions than these a collection is compared as a whole: for each of them
/// the files that differ are read.
const MOST_TOWARDS: usize = 8;

/// A collection that is written.
pub(super) struct Target {
    collection: Mutex<Collection>,
    lake: String,
    /// The server's address.
    server: String,
}

/// What a collection says of itself, and how many chunks it really has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    lake: Option<String>,
    version: Option<u64>,
    points: Option<u64>,
    under_way: bool,
    towards: Vec<u64>,
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

    /// Opens the collection for the table `lake`, and makes it where there is none. One
    /// that is there stays as it is.
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
        let fresh = said(&lake, None, 0, Some(&[]));
        let opened = context.runtime.block_on(async {
            let chroma = Chroma::open(url, options).await?;
            let server = chroma.server().to_owned();
            let collection = match chroma.find(&name).await? {
                Some(collection) => collection,
                None => chroma.collection(&name, &fresh).await?,
            };
            Ok::<_, ChromaError>((collection, server))
        });
        let (collection, server) = opened.map_err(failure)?;
        Ok(Self {
            collection: Mutex::new(collection),
            lake,
            server,
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
        let text = |name: &str| metadata.get(name).and_then(Value::as_str);
        let under_way = metadata.get(UNDER_WAY).and_then(Value::as_bool);
        Ok(State {
            lake: text(LAKE).map(str::to_owned),
            version: number(VERSION),
            points: number(POINTS),
            under_way: under_way.unwrap_or(false),
            towards: text(TOWARDS).and_then(numbers).unwrap_or_default(),
            counted: self.count().await?,
        })
    }

    /// Refuses a collection with points that are not of the table at this place: they may
    /// be somebody's only ones. Nothing is written before this is known.
    ///
    /// # Errors
    /// It is of others, and whose it is.
    pub(super) fn check_owner(&self, state: &State) -> Result<(), Failure> {
        let Some(whose) = state.of_others(&self.lake) else {
            return Ok(());
        };
        let what = format!(
            "collection {:?} of {} has {} of others: {whose}",
            self.collection().name(),
            self.server,
            units::counted(state.counted, "point"),
        );
        Err(Failure::usage(what).hint(
            "name another one with `collection`; or, if nobody needs this one, remove it from \
             the server: the next run makes it anew, and embeds nothing for it",
        ))
    }

    /// How many chunks it has.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn count(&self) -> Result<u64, Failure> {
        self.collection().count().await.map_err(failure)
    }

    /// Says that a run is on its way to the version `to`, before it writes the first
    /// chunk. Until it has said that it is there, each chunk is of one of the versions
    /// `from`, or of `to`; there are none in `from` where all is written anew.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn begin(&self, state: &State, from: &[u64], to: u64) -> Result<(), Failure> {
        let first = from.first().copied();
        let mut towards: Vec<u64> = from.iter().skip(1).copied().collect();
        if !from.contains(&to) {
            towards.push(to);
        }
        let points = state.points.unwrap_or(0);
        self.say(said(&self.lake, first, points, Some(&towards)))
            .await
    }

    /// Says which version the collection equals now.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn equals(&self, version: u64, points: u64) -> Result<(), Failure> {
        self.say(said(&self.lake, Some(version), points, None))
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

/// What a collection says of itself; `towards` is there while a run is on its way.
fn said(
    lake: &str,
    version: Option<u64>,
    points: u64,
    towards: Option<&[u64]>,
) -> Map<String, Value> {
    let version = version.map_or(Value::from(-1), Value::from);
    let mut said = vec![
        (LAKE, Value::from(lake)),
        (VERSION, version),
        (POINTS, Value::from(points)),
        (UNDER_WAY, Value::from(towards.is_some())),
    ];
    if let Some(towards) = towards.filter(|towards| !towards.is_empty()) {
        let towards: Vec<String> = towards.iter().map(u64::to_string).collect();
        said.push((TOWARDS, Value::from(towards.join(" "))));
    }
    let said = said.into_iter();
    said.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Numbers with blanks between them; `None` where something else is among them.
fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split(' ').map(|number| number.parse().ok()).collect()
}

/// Where a table is, without what tells it from others that were there before.
fn place(lake: &str) -> &str {
    lake.rsplit_once(' ').map_or(lake, |(place, _)| place)
}

impl State {
    /// Whether it is the collection of this table.
    fn is_of(&self, lake: &str) -> bool {
        self.lake.as_deref() == Some(lake)
    }

    /// Whose points it has, where they are not of the table at the place of `lake`. One
    /// that is made anew at the same place is that of the same user.
    fn of_others(&self, lake: &str) -> Option<String> {
        let whose = self.lake.as_deref().map(place);
        let is_of_others = self.counted > 0 && whose != Some(place(lake));
        is_of_others.then(|| match whose {
            Some(place) => format!("it is of the table {place}"),
            None => "it does not say that it is of any table".to_owned(),
        })
    }

    /// Whether the collection is the equal of this version of the table `lake`, as far as
    /// a count tells.
    pub(super) fn is_equal_to(&self, lake: &str, version: u64) -> bool {
        self.is_of(lake) && self.version == Some(version) && self.is_whole()
    }

    /// The versions of the table `lake` of which a chunk of the collection may be, the one
    /// that all were of at its head; none where it is empty, or where all has to be
    /// written. An error says why it has to be compared as a whole.
    pub(super) fn known(&self, lake: &str) -> Result<Vec<u64>, String> {
        match (self.is_of(lake), self.version) {
            (true, Some(version)) if self.is_whole() => Ok(vec![version]),
            (true, Some(version)) if self.under_way && self.counted > 0 => self.mixed(version),
            (_, None) if self.counted == 0 => Ok(Vec::new()),
            // The count at the end tells whether something else was there, too.
            (true, None) if self.under_way => Ok(Vec::new()),
            (false, _) => Err("it is of another table".to_owned()),
            (true, _) => Err(format!(
                "it holds {} chunks where it should hold {}",
                self.counted,
                self.points.unwrap_or(0)
            )),
        }
    }

    /// The versions of which a chunk may be where runs were interrupted: what lies between
    /// `version` and those that they were on their way to may be there, or only half of it.
    fn mixed(&self, version: u64) -> Result<Vec<u64>, String> {
        match self.towards.len() {
            0 => Err("a run was interrupted that does not say on its way to what".to_owned()),
            1..=MOST_TOWARDS => {
                let mut all = vec![version];
                all.extend(self.towards.iter().filter(|to| **to != version));
                Ok(all)
            }
            runs => Err(format!(
                "{runs} runs were interrupted, each at another version"
            )),
        }
    }

    /// Whether nothing is missing of what it says, as far as a count tells.
    fn is_whole(&self) -> bool {
        !self.under_way && self.points == Some(self.counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "file:///tmp/lake/x/ 1f3a";

    /// The equal of version 7.
    fn equal() -> State {
        State {
            lake: Some(TABLE.to_owned()),
            version: Some(7),
            points: Some(10),
            under_way: false,
            towards: Vec::new(),
            counted: 10,
        }
    }

    #[test]
    fn what_a_collection_says_decides_what_is_compared() {
        let known = |state: &State| state.known(TABLE);
        assert_eq!(known(&equal()), Ok(vec![7]));
        assert!(equal().is_equal_to(TABLE, 7) && !equal().is_equal_to(TABLE, 8));
        let emptied = State {
            counted: 0,
            ..equal()
        };
        assert!(known(&emptied).is_err() && !emptied.is_equal_to(TABLE, 7));
        let emptied_under_way = State {
            under_way: true,
            towards: vec![8],
            counted: 0,
            ..equal()
        };
        assert!(known(&emptied_under_way).is_err());
        let other = State {
            lake: Some("file:///other 1f3a".to_owned()),
            ..equal()
        };
        assert!(known(&other).is_err() && !other.is_equal_to(TABLE, 7));
        let new = State {
            version: None,
            points: Some(0),
            under_way: true,
            counted: 0,
            ..equal()
        };
        assert_eq!(known(&new), Ok(Vec::new()));
    }

    #[test]
    fn after_interrupted_runs_a_chunk_may_be_of_any_version_that_they_name() {
        let left = |towards: Vec<u64>| {
            let state = State {
                under_way: true,
                counted: 12,
                towards,
                ..equal()
            };
            assert!(!state.is_equal_to(TABLE, 7));
            state.known(TABLE)
        };
        assert_eq!(left(vec![9]), Ok(vec![7, 9]));
        assert_eq!(left(vec![9, 10]), Ok(vec![7, 9, 10]));
        // As it was said before the way was: nobody knows what was written.
        assert!(left(Vec::new()).is_err());
        assert!(left((8..8 + MOST_TOWARDS as u64).collect()).is_ok());
        assert!(left((8..9 + MOST_TOWARDS as u64).collect()).is_err());
    }

    #[test]
    fn points_of_others_are_told_from_ours() {
        let whose = |lake: Option<&str>, counted: u64| {
            let lake = lake.map(str::to_owned);
            let state = State {
                lake,
                counted,
                ..equal()
            };
            state.of_others(TABLE)
        };
        assert_eq!(whose(Some(TABLE), 3), None);
        assert_eq!(
            whose(Some("file:///tmp/lake/x/ 77aa"), 3),
            None,
            "made anew"
        );
        let elsewhere = whose(Some("file:///tmp/lake/y/ 1f3a"), 3);
        assert!(elsewhere.is_some_and(|whose| whose.ends_with("table file:///tmp/lake/y/")));
        assert!(whose(None, 3).is_some());
        for lake in [None, Some("file:///tmp/lake/y/ 1f3a")] {
            assert_eq!(whose(lake, 0), None, "an empty one is nobody's");
        }
    }

    #[test]
    fn what_is_said_is_understood() {
        let under_way = said(TABLE, Some(7), 10, Some(&[9, 10]));
        let towards = under_way.get(TOWARDS).and_then(Value::as_str);
        assert_eq!(towards.and_then(numbers), Some(vec![9, 10]));
        assert_eq!(numbers("9 "), None);
        // What is said in the end replaces that.
        assert!(!said(TABLE, Some(10), 10, None).contains_key(TOWARDS));
    }
}
