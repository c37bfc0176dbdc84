//! Both places, opened and looked at before anything is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater::app::Failure;
use highwater::run::config::ObjectsConfig;
use highwater::run::{Config, Secret};
use highwater::store::Store;
use highwater::store::objects::{Caps, Counted, Objects, RequestCounts, open_objects};
use highwater::store::pace::Rate;

/// The folder of the record, below the target.
const RECORD: &str = "_highwater/objects";

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
    /// A URL or an option is not valid; one place is inside of the other.
    pub(super) fn open(config: &Config, objects: &ObjectsConfig) -> Result<Self, Failure> {
        let (from, to) = (options(&config.source_store), options(&config.store));
        let source_url = config.source.expose();
        let source_store = Store::open(source_url, &from)?;
        let target_store = Store::open(&config.lake, &to)?;
        let requests = Arc::new(RequestCounts::default());
        let limit = objects.requests_per_second.map(Rate::new);
        let bandwidth = || objects.bandwidth.map(|bytes| Rate::new(bytes.as_u64()));
        let caps = Caps {
            requests: limit,
            read: bandwidth(),
            write: bandwidth(),
        };
        let remote = (
            source_store.folder().is_none(),
            target_store.folder().is_none(),
        );
        let paced = |objects: Arc<dyn Objects>, remote: bool| -> Arc<dyn Objects> {
            match remote {
                true => Arc::new(Counted::new(objects, Arc::clone(&requests), caps.clone())),
                false => objects,
            }
        };
        let source = paced(open_objects(source_url, &from)?, remote.0);
        let target = paced(open_objects(&config.lake, &to)?, remote.1);
        let sides = Self {
            record: target_store.child(RECORD),
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

    /// A place inside of the other would be copied into itself, again and again.
    fn refuse_nested(&self) -> Result<(), Failure> {
        let (from, to) = (
            self.source_store.url().as_str(),
            self.target_store.url().as_str(),
        );
        let same_service = match (self.source.home(), self.target.home()) {
            (Some(from), Some(to)) => from.endpoint == to.endpoint,
            (None, None) => true,
            _ => false,
        };
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
            None => self.source_store.check().await?,
        }
        self.target_store.check().await?;
        Ok(())
    }
}
