//! One server, one tenant, one database.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater::store::pace::RetryPolicy;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value, json};

use super::address;
use super::collection::{Collection, Described};
use super::error::ChromaError;
use crate::service::{Connection, Credentials, HttpError, HttpErrorKind, JsonClient, retried};

/// How a server is used.
#[derive(Debug, Clone)]
pub struct ChromaOptions {
    /// The tenant.
    pub tenant: String,
    /// The database.
    pub database: String,
    /// What says who asks: a bearer token, or one in the header `x-chroma-token`.
    pub credentials: Option<Credentials>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How often a request is tried, and how soon again.
    pub retries: RetryPolicy,
    /// A request with more than one point has at most so many bytes. Servers refuse
    /// 40 MiB unless told otherwise.
    pub request_bytes: usize,
    /// Ids on one page.
    pub page_ids: usize,
}

impl Default for ChromaOptions {
    /// The database that every server has.
    fn default() -> Self {
        Self {
            tenant: "default_tenant".to_owned(),
            database: "default_database".to_owned(),
            credentials: None,
            timeout: Duration::from_secs(60),
            retries: RetryPolicy::default(),
            request_bytes: 8 << 20,
            page_ids: 10_000,
        }
    }
}

/// A ChromaDB server. Cloning shares its connections.
#[derive(Debug, Clone)]
pub struct Chroma {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    http: JsonClient,
    pub(super) server: String,
    pub(super) options: ChromaOptions,
    pub(super) takes: Takes,
}

/// What a server says that it takes.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Takes {
    pub(super) max_batch_size: usize,
    #[serde(default)]
    pub(super) supports_base64_encoding: bool,
}

impl Chroma {
    /// Finds a server, and that it has the tenant and the database.
    ///
    /// # Errors
    /// [`ChromaError`]: the URL, the server, the token or the database.
    pub async fn open(url: &str, options: ChromaOptions) -> Result<Self, ChromaError> {
        let base = address::base(url)?;
        let server = base.to_string();
        let connection = Connection {
            base,
            credentials: options.credentials.clone(),
            timeout: options.timeout,
        };
        let unusable = |source| ChromaError::of_request(source, &server, "connect");
        let http = JsonClient::new(connection).map_err(unusable)?;
        let asked = retried(options.retries, || {
            http.send(Method::GET, "api/v2/pre-flight-checks", Bytes::new())
        });
        let takes = asked.await.map_err(|source| match source.kind {
            HttpErrorKind::NotFound | HttpErrorKind::Nonsense | HttpErrorKind::Rejected => {
                ChromaError::NotChroma {
                    server: server.clone(),
                    source,
                }
            }
            _ => ChromaError::of_request(source, &server, "ask what it takes"),
        })?;
        let chroma = Self {
            shared: Arc::new(Shared {
                http,
                server,
                options,
                takes,
            }),
        };
        chroma.find_database().await?;
        Ok(chroma)
    }

    async fn find_database(&self) -> Result<(), ChromaError> {
        let found = self.ask::<IgnoredAny>(Method::GET, self.database_path(), &Value::Null);
        match found.await {
            Ok(IgnoredAny) => Ok(()),
            Err(error)
                if matches!(
                    error.kind,
                    HttpErrorKind::NotFound | HttpErrorKind::Rejected
                ) =>
            {
                let ChromaOptions {
                    tenant, database, ..
                } = &self.shared.options;
                Err(ChromaError::NoDatabase {
                    server: self.shared.server.clone(),
                    tenant: tenant.clone(),
                    database: database.clone(),
                })
            }
            Err(error) => Err(self.failed(error, "find the database")),
        }
    }

    /// The server's address.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.shared.server
    }

    /// The most points of one request, as the server says.
    #[must_use]
    pub fn max_batch_points(&self) -> usize {
        self.shared.takes.max_batch_size.max(1)
    }

    /// The collection of this name, if there is one.
    ///
    /// # Errors
    /// [`ChromaError`].
    pub async fn find(&self, name: &str) -> Result<Option<Collection>, ChromaError> {
        let path = format!("{}/collections/{}", self.database_path(), encoded(name));
        match self.ask::<Described>(Method::GET, path, &Value::Null).await {
            Ok(described) => Ok(Some(Collection::new(self.clone(), described))),
            Err(error) if error.kind == HttpErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error, &format!("find collection {name:?}"))),
        }
    }

    /// The collection of this name; made with this metadata and cosine distance if there
    /// is none. One that is there keeps its metadata. Chroma takes names of 3 to 512
    /// characters from `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`, a letter or a digit first and
    /// last, without `..`, and that are no IP address; and no empty metadata.
    ///
    /// # Errors
    /// [`ChromaError`].
    pub async fn collection(
        &self,
        name: &str,
        metadata: &Map<String, Value>,
    ) -> Result<Collection, ChromaError> {
        let path = format!("{}/collections", self.database_path());
        let mut body = json!({
            "name": name,
            "get_or_create": true,
            "configuration": { "hnsw": { "space": "cosine" } },
        });
        if !metadata.is_empty() {
            body["metadata"] = Value::Object(metadata.clone());
        }
        let described = self.ask(Method::POST, path, &body).await;
        match described {
            Ok(described) => Ok(Collection::new(self.clone(), described)),
            Err(error) => Err(self.failed(error, &format!("make collection {name:?}"))),
        }
    }

    /// Removes a collection with all that is in it; whether there was one.
    ///
    /// # Errors
    /// [`ChromaError`].
    pub async fn remove(&self, name: &str) -> Result<bool, ChromaError> {
        let path = format!("{}/collections/{}", self.database_path(), encoded(name));
        match self
            .ask::<IgnoredAny>(Method::DELETE, path, &Value::Null)
            .await
        {
            Ok(IgnoredAny) => Ok(true),
            Err(error) if error.kind == HttpErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed(error, &format!("remove collection {name:?}"))),
        }
    }

    pub(super) fn database_path(&self) -> String {
        let ChromaOptions {
            tenant, database, ..
        } = &self.shared.options;
        format!(
            "api/v2/tenants/{}/databases/{}",
            encoded(tenant),
            encoded(database)
        )
    }

    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: &Value,
    ) -> Result<T, HttpError> {
        let body = match body {
            Value::Null => Bytes::new(),
            body => Bytes::from(body.to_string()),
        };
        self.ask_bytes(method, path, body).await
    }

    pub(super) async fn ask_bytes<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Result<T, HttpError> {
        let Shared { http, options, .. } = &*self.shared;
        retried(options.retries, || {
            http.send(method.clone(), &path, body.clone())
        })
        .await
    }

    pub(super) fn failed(&self, error: HttpError, doing: &str) -> ChromaError {
        ChromaError::of_request(error, &self.shared.server, doing)
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
