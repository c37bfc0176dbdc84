//! From a URL to a session that is logged in and set up.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use highwater::source::{SourceError, SourceErrorKind};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::NoTls;
use tokio_postgres::config::{SslNegotiation, TargetSessionAttrs};
use tokio_rustls::TlsConnector;

use super::error::{ServerError, usage};
use super::lent::{Duplex, Lent};
use super::paced::{Pace, Paced};
use super::tls::TlsMode;
use super::url::{Endpoint, Target};
use super::wire::Session;

/// A silent cut is noticed after about idle + retries x interval seconds.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(2), 3);
const UNACKNOWLEDGED: Duration = Duration::from_secs(12);

/// What every session is set to, so that values print and arrive in one way and
/// nothing interrupts a long read. `row_security = off` makes a read that a
/// policy would thin out an error instead of a silent loss. A database in
/// SQL_ASCII vouches for no encoding: asked for UTF-8, the server would end the
/// whole read at the first bad byte, so its bytes are taken as they are.
const SETTINGS: &str = "SELECT set_config('client_encoding', \
    CASE current_setting('server_encoding') WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, false); \
    SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; \
    SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 3; \
    SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET row_security = off; SET jit = off; SET max_parallel_workers_per_gather = 0";

/// The server, database and user of a session, for messages.
#[derive(Debug, Clone)]
pub(super) struct Place {
    endpoint: Endpoint,
    database: String,
    user: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { name, port, .. } if name.contains(':') => write!(f, "[{name}]:{port}")?,
            Endpoint::Tcp { name, port, .. } => write!(f, "{name}:{port}")?,
            Endpoint::Unix { folder, port } => write!(f, "{}/.s.PGSQL.{port}", folder.display())?,
        }
        write!(
            f,
            " (database \"{}\", user \"{}\")",
            self.database, self.user
        )
    }
}

/// Opens a session at the first server of `target` that takes it.
pub(super) async fn connect(target: &Target) -> Result<Session, SourceError> {
    let mut failure = None;
    for endpoint in &target.endpoints {
        match connect_to(target, endpoint).await {
            Ok(session) => return Ok(session),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| usage("the connection URL names no host")))
}

/// Opens a session at `endpoint`.
pub(super) async fn connect_to(
    target: &Target,
    endpoint: &Endpoint,
) -> Result<Session, SourceError> {
    let place = Place {
        endpoint: endpoint.clone(),
        database: target.database().to_owned(),
        user: target.user().to_owned(),
    };
    let encrypted = !matches!(endpoint, Endpoint::Unix { .. });
    let attempt = |encrypt: bool| attempt(target, endpoint, &place, encrypt && encrypted);
    let mut session = match target.tls.mode {
        TlsMode::Disable => attempt(false).await,
        TlsMode::Allow => match attempt(false).await {
            Err(failure) if failure.other_way => attempt(true).await,
            outcome => outcome,
        },
        TlsMode::Prefer => match attempt(true).await {
            Err(failure) if failure.other_way && encrypted => attempt(false).await,
            outcome => outcome,
        },
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => attempt(true).await,
    }
    .map_err(|failure| failure.error)?;
    session.query(SETTINGS).await?;
    check_state(&mut session, target.session).await?;
    Ok(session)
}

/// Why an attempt failed, and whether the other way (with or without TLS) may
/// succeed: TLS trouble, or an entry of `pg_hba.conf` that wants it otherwise.
struct Failure {
    error: SourceError,
    other_way: bool,
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self {
            error,
            other_way: false,
        }
    }
}

async fn attempt(
    target: &Target,
    endpoint: &Endpoint,
    place: &Place,
    encrypt: bool,
) -> Result<Session, Failure> {
    let steps = async {
        let pace = Pace::default();
        let mut stream = open_socket(endpoint, place, &pace).await?;
        if encrypt {
            stream = encrypt_stream(stream, target, endpoint, place).await?;
        }
        login(stream, pace, target, place).await
    };
    match tokio::time::timeout(target.timeout, steps).await {
        Ok(outcome) => outcome,
        Err(_) => Err(unreachable(
            place,
            &format!("no answer within {} s", target.timeout.as_secs()),
        )
        .into()),
    }
}

fn unreachable(place: &Place, why: &str) -> SourceError {
    SourceError::new(
        SourceErrorKind::Unavailable,
        format!(
            "PostgreSQL at {place} cannot be reached: {why}. Is the server running, and are host and port right?"
        ),
    )
}

async fn open_socket(
    endpoint: &Endpoint,
    place: &Place,
    pace: &Pace,
) -> Result<Box<dyn Duplex>, SourceError> {
    let failed = |error: io::Error| unreachable(place, &error.to_string()).caused_by(error);
    match endpoint {
        Endpoint::Tcp { address, port, .. } => {
            let stream = TcpStream::connect((address.as_str(), *port))
                .await
                .map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let (idle, interval, retries) = KEEPALIVE;
            let socket = socket2::SockRef::from(&stream);
            let probes = socket2::TcpKeepalive::new()
                .with_time(idle)
                .with_interval(interval)
                .with_retries(retries);
            socket.set_tcp_keepalive(&probes).map_err(failed)?;
            #[cfg(target_os = "linux")]
            socket
                .set_tcp_user_timeout(Some(UNACKNOWLEDGED))
                .map_err(failed)?;
            Ok(Box::new(Paced::new(stream, pace.clone())))
        }
        Endpoint::Unix { folder, port } => {
            let stream = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}")))
                .await
                .map_err(failed)?;
            Ok(Box::new(stream))
        }
    }
}

async fn encrypt_stream(
    mut stream: Box<dyn Duplex>,
    target: &Target,
    endpoint: &Endpoint,
    place: &Place,
) -> Result<Box<dyn Duplex>, Failure> {
    let broken = |error: io::Error| tls_failure(place, &error);
    if target.login.get_ssl_negotiation() == SslNegotiation::Postgres {
        // SSLRequest: length 8, code 80877103.
        stream
            .write_all(&[0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F])
            .await
            .map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        if stream.read_u8().await.map_err(broken)? != b'S' {
            let why = io::Error::other(
                "the server does not offer TLS; set ssl = on there, or sslmode=prefer here",
            );
            return Err(tls_failure(place, &why));
        }
    }
    let name = match endpoint {
        Endpoint::Tcp { name, .. } => name.clone(),
        Endpoint::Unix { .. } => "localhost".to_owned(),
    };
    let name =
        ServerName::try_from(name).map_err(|error| tls_failure(place, &io::Error::other(error)))?;
    let connector = TlsConnector::from(target.tls.client()?);
    let stream = connector.connect(name, stream).await.map_err(broken)?;
    Ok(Box::new(stream))
}

fn tls_failure(place: &Place, cause: &io::Error) -> Failure {
    let kind = match cause.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            SourceErrorKind::Unavailable
        }
        _ => SourceErrorKind::Refused,
    };
    let message = format!(
        "no TLS connection to PostgreSQL at {place}: {cause}. Check sslmode, sslrootcert and the host name"
    );
    Failure {
        error: SourceError::new(kind, message),
        other_way: true,
    }
}

async fn login(
    stream: Box<dyn Duplex>,
    pace: Pace,
    target: &Target,
    place: &Place,
) -> Result<Session, Failure> {
    let lent = Lent::new(stream);
    let logged_in = target.login.connect_raw(lent.clone(), NoTls).await;
    // The connection is not run, only dropped: it sends nothing more.
    match (logged_in, lent.reclaim()) {
        (Ok(_), Some(stream)) => Ok(Session::new(stream, pace, place.clone())),
        (Ok(_), None) => Err(unreachable(place, "the login lost its stream").into()),
        (Err(error), _) => Err(login_failure(&error, target, place)),
    }
}

fn login_failure(error: &tokio_postgres::Error, target: &Target, place: &Place) -> Failure {
    if let Some(server) = error.as_db_error() {
        let server = ServerError {
            code: server.code().code().to_owned(),
            message: server.message().to_owned(),
            detail: server.detail().map(ToOwned::to_owned),
            hint: server.hint().map(ToOwned::to_owned),
        };
        let other_way = server.code == "28000";
        return Failure {
            error: server.while_doing(&format!("PostgreSQL at {place} refused the connection")),
            other_way,
        };
    }
    let cause =
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    if target.login.get_password().is_none() && cause.contains("password missing") {
        let message =
            format!("PostgreSQL at {place} asks for a password and the connection URL has none");
        return SourceError::new(SourceErrorKind::Refused, message).into();
    }
    let is_io = std::error::Error::source(error).is_some_and(|cause| cause.is::<io::Error>());
    if is_io || error.is_closed() {
        return unreachable(place, &cause).into();
    }
    SourceError::new(
        SourceErrorKind::Refused,
        format!("login at PostgreSQL {place} failed: {cause}"),
    )
    .into()
}

/// Honours `target_session_attrs`.
async fn check_state(session: &mut Session, wanted: TargetSessionAttrs) -> Result<(), SourceError> {
    let read_only = match wanted {
        TargetSessionAttrs::ReadWrite => false,
        TargetSessionAttrs::ReadOnly => true,
        _ => return Ok(()),
    };
    let found = session
        .query("SHOW transaction_read_only")
        .await?
        .text(0, 0, 0)?
        == "on";
    if found == read_only {
        return Ok(());
    }
    let place = session.place();
    let found = if found { "read-only" } else { "read-write" };
    Err(SourceError::new(
        SourceErrorKind::Unavailable,
        format!("PostgreSQL at {place} is {found}, and target_session_attrs asks for the other"),
    ))
}

impl Place {
    /// The server.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The same, shared.
    pub(super) fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}
