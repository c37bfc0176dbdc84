//! PostgreSQL as a source.
//!
//! One session takes a snapshot and exports it; every reader joins it and reads
//! page ranges of tables by `COPY ... (FORMAT binary)`, decoded straight from
//! the receive buffer into Arrow columns. PostgreSQL 13 and later.
//!
//! | file | what lives there |
//! |---|---|
//! | `url`, `tls`, `connect`, `lent`, `paced` | from a URL to a session that is logged in |
//! | `inbox`, `wire`, `error` | messages, simple queries, the server's errors |
//! | `catalog`, `selection`, `types` | tables, columns, keys, and what types become |
//! | `snapshot`, `layout`, `reader`, `query`, `projection` | splits, and the query of each |
//! | `since`, `writers` | what was written since, and who may still commit (T2, T3) |
//! | `fetch`, `literal` | rows by key |
//! | `copy`, `decode` | from bytes to batches |
//! | `restore`, `copy_in` | back again: from batches to a table |

mod catalog;
mod connect;
mod copy;
mod copy_in;
mod decode;
mod error;
mod fetch;
mod inbox;
mod layout;
mod lent;
mod literal;
mod paced;
mod projection;
mod query;
mod quote;
mod reader;
mod restore;
mod selection;
mod since;
mod snapshot;
mod tls;
mod types;
mod url;
mod wire;
mod writers;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use highwater::dataset::TableName;
use highwater::source::{Discovered, Readers, Selection, Source, SourceError, View};
use highwater::watermark::Identity;

pub(crate) use literal::text as value_text;
pub(crate) use restore::restore_into;
use snapshot::PgSnapshot;
use url::Target;
use wire::Session;

/// First server version that has all that is asked for (`pg_current_snapshot`).
const OLDEST_SERVER: u32 = 130_000;

/// What a connection URL may leave out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostgresOptions {
    /// CA certificates in PEM, as `sslrootcert` in the URL. With it and no
    /// `sslmode`, the server's certificate and name are verified.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate in PEM, as `sslcert` in the URL.
    pub certificate_file: Option<PathBuf>,
    /// The key of the client's certificate in PEM, as `sslkey` in the URL.
    pub key_file: Option<PathBuf>,
}

/// A PostgreSQL database as a source. Nothing is connected until it is used.
///
/// `url` is what libpq takes: `postgres://user:password@host:5432/database`,
/// with parameters such as `sslmode=verify-full&sslrootcert=/etc/ca.pem`.
///
/// # Errors
/// `Usage`, when the URL is not valid.
pub fn open(url: &str, options: PostgresOptions) -> Result<Arc<dyn Source>, SourceError> {
    Ok(Arc::new(Postgres {
        target: Target::parse(url, &options)?,
    }))
}

struct Postgres {
    target: Target,
}

impl Postgres {
    async fn session(&self) -> Result<Session, SourceError> {
        let mut session = connect::connect(&self.target).await?;
        let found = session
            .query("SELECT current_setting('server_version_num'), version()")
            .await?;
        let version: u32 = found.text(0, 0, 0)?.parse().unwrap_or(0);
        if version < OLDEST_SERVER {
            let version = found.text(0, 0, 1)?;
            return Err(error::usage(format!(
                "{}: {version} is too old; 13 is the oldest that works",
                session.place()
            )));
        }
        Ok(session)
    }
}

#[async_trait]
impl Source for Postgres {
    async fn identity(&self) -> Result<Identity, SourceError> {
        let mut session = self.session().await?;
        let database = session.query("SELECT current_database(), oid FROM pg_database WHERE datname = current_database()").await?;
        let name = database.text(0, 0, 0)?.to_owned();
        let control = session
            .try_query("SELECT s.system_identifier, c.timeline_id FROM pg_control_system() s, pg_control_checkpoint() c")
            .await?;
        let (id, history) = match control {
            Ok(control) => (
                format!("{}/{name}", control.text(0, 0, 0)?),
                control.text(0, 0, 1)?.to_owned(),
            ),
            // Some hosts hide the control file; then the address stands for the
            // server, and the number of the database for its life.
            Err(_) => {
                let server = session.query("SELECT coalesce(host(inet_server_addr()), 'local'), current_setting('port')").await?;
                let (address, port) = (server.text(0, 0, 0)?, server.text(0, 0, 1)?);
                let id = format!("{address}:{port}/{}/{name}", database.text(0, 0, 1)?);
                (id, String::new())
            }
        };
        Ok(Identity {
            kind: "postgres".to_owned(),
            id,
            history,
        })
    }

    async fn discover(&self, selection: &Selection) -> Result<Vec<Discovered>, SourceError> {
        catalog::discover(&mut self.session().await?, selection).await
    }

    fn join(&self, shared: &str, readers: usize) -> Result<Arc<dyn Readers>, SourceError> {
        Ok(Arc::new(PgSnapshot::join(&self.target, shared, readers)?))
    }

    async fn view(
        &self,
        selection: &Selection,
        kept: &[TableName],
        readers: usize,
    ) -> Result<View, SourceError> {
        let snapshot = PgSnapshot::take(&self.target, kept, readers).await?;
        let tables = snapshot.discover(selection).await?;
        Ok(View {
            snapshot: Arc::new(snapshot),
            tables,
        })
    }
}
