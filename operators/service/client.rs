//! One service: where it is, what every request carries, how long an answer may take.

use std::time::Duration;

use bytes::Bytes;
use highwater::run::Secret;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::de::DeserializeOwned;
use url::Url;

use super::{HttpError, HttpErrorKind};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// A service that wants to be left alone for longer is asked after so long.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// No answer that is wanted is larger: what is, is not read to its end.
const MOST_ANSWER_BYTES: usize = 256 << 20;

/// What says who asks. It is shown nowhere.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// `Authorization: Bearer ...`.
    Bearer(Secret),
    /// A header of the service's own.
    Header(HeaderName, Secret),
}

impl Credentials {
    fn header(&self) -> (HeaderName, String, &Secret) {
        match self {
            Self::Bearer(secret) => (AUTHORIZATION, format!("Bearer {}", secret.expose()), secret),
            Self::Header(name, secret) => (name.clone(), secret.expose().to_owned(), secret),
        }
    }
}

/// How a service is spoken to.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Where it is; requests go to paths below.
    pub base: Url,
    /// What says who asks, if anything.
    pub credentials: Option<Credentials>,
    /// How long one answer may take, from the first byte that is sent to the last one
    /// that arrives.
    pub timeout: Duration,
}

/// Sends requests to one service. Cloning shares its connections.
#[derive(Debug, Clone)]
pub struct JsonClient {
    http: reqwest::Client,
    base: Url,
    secret: Secret,
}

impl JsonClient {
    /// Prepares to speak to a service; sends nothing.
    ///
    /// # Errors
    /// [`HttpErrorKind::Unusable`] if the credentials are no header, or the system's
    /// certificates cannot be read.
    pub fn new(connection: Connection) -> Result<Self, HttpError> {
        let unusable = |what: &str| HttpError::new(HttpErrorKind::Unusable, what);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut secret = Secret::default();
        if let Some(credentials) = &connection.credentials {
            let (name, value, kept) = credentials.header();
            let mut header = HeaderValue::from_str(&value)
                .map_err(|_| unusable("the credentials hold characters that no header takes"))?;
            header.set_sensitive(true);
            headers.insert(name, header);
            secret = kept.clone();
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT.min(connection.timeout))
            .timeout(connection.timeout)
            // Whoever is asked gets the credentials; nobody else does.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| HttpError::of_transport(&error))?;
        let mut base = connection.base;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { http, base, secret })
    }

    /// Where the service is.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Sends a request once, and reads the answer as JSON. `path` is below the base and
    /// percent-encoded where it must be; an empty `body` is none.
    ///
    /// # Errors
    /// [`HttpError`]; anything but a status from 200 to 299 is one.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, HttpError> {
        let sent = self.exchange(method, path, body).await;
        let answer = sent.map_err(|error| HttpError {
            message: self.secret.scrub(&error.message),
            ..error
        })?;
        serde_json::from_slice(&answer).map_err(|error| {
            let what = format!("the answer is not what was asked for: {error}");
            HttpError::new(HttpErrorKind::Nonsense, what)
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Vec<u8>, HttpError> {
        let address = self.base.join(path).map_err(|error| {
            HttpError::new(HttpErrorKind::Unusable, format!("{path:?}: {error}"))
        })?;
        let mut request = self.http.request(method, address);
        if !body.is_empty() {
            request = request.body(body);
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|error| HttpError::of_transport(&error))?;
        let (status, wait) = (response.status(), retry_after(response.headers()));
        let mut answer = Vec::new();
        loop {
            let chunk = response.chunk().await;
            match chunk.map_err(|error| HttpError::of_transport(&error)) {
                Ok(Some(chunk)) if answer.len() + chunk.len() <= MOST_ANSWER_BYTES => {
                    answer.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => {
                    let what = format!("an answer of more than {MOST_ANSWER_BYTES} bytes");
                    return Err(HttpError::new(HttpErrorKind::Rejected, what));
                }
                Ok(None) => break,
                // What is known of a failure is its status.
                Err(_) if !status.is_success() => break,
                Err(error) => return Err(error),
            }
        }
        if status.is_success() {
            return Ok(answer);
        }
        let said = String::from_utf8_lossy(&answer);
        Err(HttpError {
            retry_after: wait,
            ..HttpError::of_status(status, &said)
        })
    }
}

/// How long to wait, where the service says so in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    Some(wait.min(LONGEST_WAIT))
}
