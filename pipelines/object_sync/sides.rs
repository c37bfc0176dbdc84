//! Both places, opened and looked at before anything is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater::app::{Failure, RunContext};
use highwater::ledger::Ledger;
use highwater::run::config::ObjectsConfig;
use highwater::run::{Config, Secret};
use highwater::store::Store;
use highwater::store::objects::{Caps, Carry, Counted, Objects, RequestCounts, open_objects};
use highwater::store::pace::{Rate, Retries, RetryPolicy};
use highwater_operators::ingest::objects::PackedObjects;
use highwater_operators::lake::KeyedTable;

use super::places::{PACK, refuse_unknown};

/// The folder of the record, below the target.
const RECORD: &str = "_highwater/objects";

/// Of the memory, what row groups of a packed source take.
const PACKED_SHARE: u64 = 8;

/// A packed table.
pub(super) struct Packed {
    /// Its URL, as it is told.
    pub(super) url: String,
    /// Its folder.
    pub(super) store: Store,
    /// Its files.
    pub(super) table: Arc<KeyedTable>,
    exists: bool,
}

/// One place.
struct Place {
    objects: Arc<dyn Objects>,
    store: Store,
    packed: Option<Packed>,
}

impl Place {
    fn open(
        url: &str,
        options: &BTreeMap<String, String>,
        context: &RunContext,
    ) -> Result<Self, Failure> {
        refuse_unknown(url.strip_prefix(PACK).unwrap_or(url))?;
        match url.strip_prefix(PACK) {
            Some(url) => context
                .runtime
                .block_on(Self::open_packed(url, options, context)),
            None => Ok(Self {
                objects: open_objects(url, options)?,
                store: Store::open(url, options)?,
                packed: None,
            }),
        }
    }

    async fn open_packed(
        url: &str,
        options: &BTreeMap<String, String>,
        context: &RunContext,
    ) -> Result<Self, Failure> {
        let store = Store::open(url, options)?;
        let ledger = Ledger::open(store.clone()).await?;
        let files = match ledger.head() {
            Some(_) => ledger.files().await?,
            None => Vec::new(),
        };
        let table = KeyedTable::open(store.objects(), files, "key").await;
        let table = Arc::new(table.map_err(|error| Failure::failed(error.to_string()))?);
        let packed = Packed {
            url: format!("{PACK}{}", store.url()),
            store: store.clone(),
            table: Arc::clone(&table),
            exists: ledger.head().is_some(),
        };
        let share = context.allowance.budget.as_u64() / PACKED_SHARE;
        Ok(Self {
            objects: Arc::new(PackedObjects::new(packed.url.clone(), table, share)),
            store,
            packed: Some(packed),
        })
    }
}

/// What goes with the content of objects.
pub(super) fn carry(objects: &ObjectsConfig) -> Carry {
    Carry {
        metadata: objects.metadata,
        tags: objects.tags,
    }
}

/// How often a place that does not answer is asked before a run does any work, over
/// about six seconds.
const FIRST_LOOK: RetryPolicy = RetryPolicy {
    attempts: 6,
    first_pause: Duration::from_millis(200),
    longest_pause: Duration::from_secs(3),
    away_after: Duration::from_secs(60),
};

/// What has no objects: the cheapest request that needs the bucket, the credentials
/// and the permission to list.
const NOTHING: &str = "_highwater/check/";

/// Both places.
pub(super) struct Sides {
    /// Where objects come from.
    pub(super) source: Arc<dyn Objects>,
    /// Where they go.
    pub(super) target: Arc<dyn Objects>,
    /// Requests to both.
    pub(super) requests: Arc<RequestCounts>,
    /// The folder of the record.
    pub(super) record: Store,
    /// The target, where it is a packed table.
    pub(super) packed: Option<Packed>,
    /// Whether requests are sent to the source and to the target; folders take none.
    pub(super) remote: (bool, bool),
    source_store: Store,
    target_store: Store,
}

fn options(secrets: &BTreeMap<String, Secret>) -> BTreeMap<String, String> {
    let exposed = secrets.iter();
    exposed
        .map(|(name, secret)| (name.clone(), secret.expose().to_owned()))
        .collect()
}

impl Sides {
    /// Opens both. Nothing is read or written yet.
    ///
    /// # Errors
    /// A URL or an option is not valid; one place is inside of the other; a packed
    /// table cannot be read.
    pub(super) fn open(
        config: &Config,
        objects: &ObjectsConfig,
        context: &RunContext,
    ) -> Result<Self, Failure> {
        let (from, to) = (options(&config.source_store), options(&config.store));
        let from = Place::open(config.source.expose(), &from, context)?;
        if from.packed.as_ref().is_some_and(|packed| !packed.exists) {
            let what = format!("there is nothing packed at {}", from.store.url());
            return Err(Failure::usage(what).hint("pack something: run SOURCE pack:TARGET"));
        }
        let to = Place::open(&config.lake, &to, context)?;
        let (source_store, target_store) = (from.store, to.store);
        let requests = Arc::new(RequestCounts::default());
        let limit = objects.requests_per_second.map(Rate::new);
        let bandwidth = || objects.bandwidth.map(|bytes| Rate::new(bytes.as_u64()));
        let caps = Caps {
            requests: limit,
            read: bandwidth(),
            write: bandwidth(),
        };
        let is_remote = |store: &Store, packed: bool| store.folder().is_none() && !packed;
        let remote = (
            is_remote(&source_store, from.packed.is_some()),
            is_remote(&target_store, to.packed.is_some()),
        );
        let paced = |place: Arc<dyn Objects>, remote: bool, tags: bool| -> Arc<dyn Objects> {
            match (remote, objects.bandwidth) {
                (false, None) => place,
                // It takes no requests; its bytes keep to the rate all the same.
                (false, Some(_)) => {
                    let caps = Caps {
                        requests: None,
                        ..caps.clone()
                    };
                    Arc::new(Counted::new(place, Arc::default(), caps))
                }
                (true, _) => {
                    let counted = Counted::new(place, Arc::clone(&requests), caps.clone());
                    Arc::new(counted.with_tags(tags))
                }
            }
        };
        let kept = to.packed.is_some() || to.objects.keeps_tags();
        let source = paced(from.objects, remote.0, objects.tags && kept);
        let target = paced(to.objects, remote.1, false);
        let sides = Self {
            record: target_store.child(RECORD),
            packed: to.packed,
            source,
            target,
            requests,
            remote,
            source_store,
            target_store,
        };
        sides.refuse_nested()?;
        Ok(sides)
    }

    /// What was asked for and cannot be.
    pub(super) fn notes(&self, objects: &ObjectsConfig) -> Vec<String> {
        let target_keeps = self.packed.is_some() || self.target.keeps_tags();
        let note = match (objects.tags, self.source.keeps_tags(), target_keeps) {
            (true, false, _) => format!("{} has no tags to carry", self.source.url()),
            (true, true, false) => {
                format!(
                    "{} cannot keep tags: they are left behind",
                    self.target.url()
                )
            }
            _ => return Vec::new(),
        };
        vec![note]
    }

    /// A place inside of the other would be copied into itself, again and again.
    fn refuse_nested(&self) -> Result<(), Failure> {
        let (from, to) = (
            self.source_store.url().as_str(),
            self.target_store.url().as_str(),
        );
        let same_service = self.source.service() == self.target.service();
        let slash = |url: &str| format!("{}/", url.trim_end_matches('/'));
        let (from, to) = (slash(from), slash(to));
        if same_service && (from.starts_with(&to) || to.starts_with(&from)) {
            let what = format!("{from} and {to} are the same place, or one is inside of the other");
            return Err(Failure::usage(what).hint("copy to a place beside it"));
        }
        Ok(())
    }

    /// Looks at both before a run does any work.
    ///
    /// # Errors
    /// One of them is not there, or does not let us.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        match self.source_store.folder() {
            Some(folder) if !folder.is_dir() => {
                let what = format!(
                    "the source {} is not a folder that is there",
                    folder.display()
                );
                return Err(Failure::usage(what)
                    .hint("correct the path; an empty source would look as if all was deleted"));
            }
            Some(_) => {}
            None => look(&self.source, &self.source_store).await?,
        }
        match self.target_store.folder() {
            Some(_) => self.target_store.check().await?,
            None => look(&self.target, &self.target_store).await?,
        }
        Ok(())
    }
}

/// A bucket must be reachable and listable.
async fn look(objects: &Arc<dyn Objects>, store: &Store) -> Result<(), Failure> {
    // What is packed is reached through its table.
    if objects.url().starts_with(PACK) {
        return Ok(store.check().await?);
    }
    let retries = Retries::new(FIRST_LOOK);
    let ask = || objects.names_below(NOTHING);
    retries.ask(ask, |_| ()).await?;
    Ok(())
}
