//! One instance, opened: where its documents are, and the table of its chunks.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater::app::{Failure, RunContext};
use highwater::ledger::Ledger;
use highwater::run::Config;
use highwater::run::config::{InstanceConfig, PapersConfig, PdfReader};
use highwater::run::lake::open_lake;
use highwater::store::Store;
use highwater::store::objects::Objects;
use highwater::store::pace::{Retries, RetryPolicy};
use highwater::telemetry::objects::ObjectTally;
use highwater::watermark::Identity;
use highwater_operators::ingest::documents::{DocumentSides, EXTRACTION, KEY};
use highwater_operators::ingest::objects::KeyFilter;
use highwater_operators::lake::KeyedTable;
use highwater_operators::transform::extract::Limits;

use super::source::Source;

/// The instance that stands for the whole configuration where none is named.
const ONLY: &str = "documents";

/// Rows are made anew when this number changes: text is made or cut in another way. What
/// only fails no longer needs no new number: see `EXTRACTION`.
const RECIPE: u32 = 1;

/// The instances of a configuration by name, those that are wanted.
///
/// # Errors
/// None is wanted.
pub(super) fn instances(config: &Config) -> Result<BTreeMap<String, InstanceConfig>, Failure> {
    let mut all = config.instances.clone();
    if all.is_empty() {
        let only = InstanceConfig {
            source: config.source.clone(),
            source_store: config.source_store.clone(),
            ..InstanceConfig::default()
        };
        all.insert(ONLY.to_owned(), only);
    }
    let wanted = KeyFilter::new(&config.include, &config.exclude).map_err(Failure::usage)?;
    all.retain(|name, _| wanted.takes(name));
    if all.is_empty() {
        let what = "no instance of the configuration is wanted";
        return Err(Failure::usage(what).hint("see `include`, `exclude` and --table"));
    }
    Ok(all)
}

/// How text is made and cut, in one line: rows that were made in another way are made
/// anew.
fn recipe(papers: &PapersConfig) -> String {
    let pdf = match papers.pdf {
        PdfReader::Builtin => "",
        PdfReader::Pdftotext => ", pdftotext",
    };
    format!(
        "{RECIPE}: {} characters, {} tokens, {} overlap{pdf}",
        papers.text_characters, papers.chunk_tokens, papers.overlap_tokens
    )
}

/// An instance.
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) config: InstanceConfig,
    /// What holds for this instance.
    pub(super) papers: PapersConfig,
    /// How its text is made and cut.
    pub(super) recipe: String,
    /// Where its documents are.
    pub(super) source: Source,
    pub(super) retries: Retries,
    /// The folder of the table of chunks.
    pub(super) store: Store,
}

impl Instance {
    /// Opens it. Nothing is read or written yet.
    ///
    /// # Errors
    /// A URL or an option is not valid; the source is not there.
    pub(super) fn open(
        name: &str,
        instance: &InstanceConfig,
        config: &Config,
        context: &RunContext,
    ) -> Result<Self, Failure> {
        let lake = open_lake(config)?;
        let retries = Retries::new(RetryPolicy::default()).until(context.cancel.clone());
        let source = Source::open(name, instance, &lake);
        let source = context.runtime.block_on(source)?;
        let papers = instance.papers(&config.papers.clone().unwrap_or_default());
        Ok(Self {
            recipe: recipe(&papers),
            papers,
            name: name.to_owned(),
            config: instance.clone(),
            source,
            retries,
            store: lake.child(name),
        })
    }

    /// The log of the table, which must be that of this source (T7).
    ///
    /// # Errors
    /// It cannot be read; it is that of another source, and nobody said that this is
    /// meant.
    pub(super) async fn ledger(
        &self,
        identity: &Identity,
        accept_other_source: bool,
    ) -> Result<Ledger, Failure> {
        let ledger = Ledger::open(self.store.clone()).await?;
        if let Some(head) = ledger.head()
            && head.watermark.source != *identity
            && !accept_other_source
        {
            let what = format!(
                "instance `{}`: its table holds documents of {}",
                self.name, head.watermark.source.id
            );
            return Err(Failure::usage(what).hint(
                "name another instance, or let this source take its place once by \
                 --accept-other-source",
            ));
        }
        Ok(ledger)
    }

    /// Both sides of the comparison.
    ///
    /// # Errors
    /// The table cannot be read; a glob is none.
    pub(super) async fn sides(
        &self,
        source: Arc<dyn Objects>,
        ledger: &Ledger,
        model: &str,
        limits: Limits,
        tally: &Arc<ObjectTally>,
    ) -> Result<DocumentSides, Failure> {
        let files = match ledger.head() {
            Some(_) => ledger.files().await?,
            None => Vec::new(),
        };
        let chunks = KeyedTable::open_sharing(self.store.objects(), files, KEY).await;
        let filter = KeyFilter::new(&self.config.include, &self.config.exclude);
        Ok(DocumentSides {
            source,
            chunks: Arc::new(chunks.map_err(|error| Failure::failed(error.to_string()))?),
            filter: filter.map_err(Failure::usage)?,
            recipe: self.recipe.as_str().into(),
            model: model.into(),
            extraction: EXTRACTION.into(),
            limits,
            retries: self.retries.clone(),
            tally: Arc::clone(tally),
        })
    }
}
