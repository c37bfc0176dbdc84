//! Connection URLs, as libpq reads them.
//!
//! `tokio-postgres` parses the URL; what it does not know (certificates and the
//! finer `sslmode`s) is taken out before. No message ever quotes the URL: it
//! may carry a password.

use std::path::PathBuf;
use std::time::Duration;

use highwater::source::SourceError;
use serde::{Deserialize, Serialize};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};

use super::PostgresOptions;
use super::error::usage;
use super::tls::{TlsMode, TlsSettings};

/// libpq parameters that change nothing for us.
const IGNORED: [&str; 6] = [
    "gssencmode",
    "sslcompression",
    "fallback_application_name",
    "sslsni",
    "krbsrvname",
    "gsslib",
];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const PORT: u16 = 5432;

/// Where one server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Endpoint {
    /// A TCP address: the name (for certificates and messages), the host or
    /// address to connect to, the port.
    Tcp {
        /// The name in the URL.
        name: String,
        /// What is connected to: the name, or `hostaddr`.
        address: String,
        /// The port.
        port: u16,
    },
    /// The folder of a Unix socket, and the port in its name.
    Unix {
        /// The folder.
        folder: PathBuf,
        /// The port.
        port: u16,
    },
}

/// All that a URL says.
#[derive(Clone)]
pub(super) struct Target {
    /// User, password, database and options, for the login.
    pub(super) login: Config,
    /// The servers, in the order in which they are tried.
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether and how to encrypt.
    pub(super) tls: TlsSettings,
    /// How long to wait for a server to answer.
    pub(super) timeout: Duration,
    /// Which state of a server is wanted.
    pub(super) session: TargetSessionAttrs,
}

impl Target {
    /// Parses `url`; `options` supply what it does not carry.
    pub(super) fn parse(url: &str, options: &PostgresOptions) -> Result<Self, SourceError> {
        let (main, query) = url.split_once('?').unwrap_or((url, ""));
        let mut tls = Parameters::default();
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, raw) = pair.split_once('=').ok_or_else(|| {
                usage("a parameter of the connection URL has no value: write name=value")
            })?;
            let value = decode(raw)?;
            match name {
                "sslmode" => tls.mode = Some(TlsMode::parse(&value)?),
                "sslrootcert" => tls.root = Some(value),
                "sslcert" => tls.certificate = Some(PathBuf::from(value)),
                "sslkey" => tls.key = Some(PathBuf::from(value)),
                name if IGNORED.contains(&name) => {}
                // The parser of credentials takes everything before an `@`.
                _ => kept.push(pair.replace('@', "%40")),
            }
        }
        let rest = if kept.is_empty() {
            main.to_owned()
        } else {
            format!("{main}?{}", kept.join("&"))
        };
        let mut login: Config = rest.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            usage(format!("the PostgreSQL connection URL is not valid{cause}; it reads postgres://user:password@host:5432/database?parameter=value"))
        })?;
        // Ours, encrypted or not, before tokio-postgres sees the stream.
        login.ssl_mode(SslMode::Disable);
        login.application_name("highwater");
        Ok(Self {
            endpoints: endpoints(&login)?,
            tls: tls.settings(options),
            timeout: login
                .get_connect_timeout()
                .copied()
                .unwrap_or(CONNECT_TIMEOUT),
            session: login.get_target_session_attrs(),
            login,
        })
    }

    /// The user, for messages.
    pub(super) fn user(&self) -> &str {
        self.login.get_user().unwrap_or("(the system user)")
    }

    /// The database, for messages.
    pub(super) fn database(&self) -> &str {
        self.login
            .get_dbname()
            .or(self.login.get_user())
            .unwrap_or("(named as the user)")
    }
}

#[derive(Default)]
struct Parameters {
    mode: Option<TlsMode>,
    root: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Parameters {
    fn settings(self, options: &PostgresOptions) -> TlsSettings {
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| path.to_string_lossy().into_owned())
        };
        let root = self.root.or_else(|| path(&options.ca_file));
        let mode = match (self.mode, &root) {
            // Who names a CA wants the server's name checked against it.
            (None, Some(_)) => TlsMode::VerifyFull,
            // As libpq has it: with a CA at hand, `require` checks the chain.
            (Some(TlsMode::Require), Some(_)) => TlsMode::VerifyCa,
            (Some(mode), _) => mode,
            (None, None) => TlsMode::Prefer,
        };
        TlsSettings {
            mode,
            root,
            certificate: self
                .certificate
                .or_else(|| options.certificate_file.clone()),
            key: self.key.or_else(|| options.key_file.clone()),
        }
    }
}

fn endpoints(login: &Config) -> Result<Vec<Endpoint>, SourceError> {
    let (hosts, addresses, ports) = (login.get_hosts(), login.get_hostaddrs(), login.get_ports());
    let count = hosts.len().max(addresses.len()).max(1);
    if ports.len() > 1 && ports.len() != count {
        return Err(usage(format!(
            "the connection URL names {count} hosts but {} ports",
            ports.len()
        )));
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(usage(
            "the connection URL names different numbers of host and hostaddr",
        ));
    }
    let mut endpoints = Vec::with_capacity(count);
    for position in 0..count {
        let port = ports
            .get(position)
            .or(ports.first())
            .copied()
            .unwrap_or(PORT);
        let address = addresses.get(position).map(ToString::to_string);
        endpoints.push(match hosts.get(position) {
            Some(Host::Unix(folder)) => Endpoint::Unix { folder: folder.clone(), port },
            Some(Host::Tcp(name)) if name.contains('@') => {
                return Err(usage("the connection URL has more than one `@`: write `@` in a user name or password as %40"));
            }
            Some(Host::Tcp(name)) => {
                Endpoint::Tcp { name: name.clone(), address: address.unwrap_or_else(|| name.clone()), port }
            }
            None => {
                let address = address.unwrap_or_else(|| "localhost".to_owned());
                Endpoint::Tcp { name: address.clone(), address, port }
            }
        });
    }
    if login.get_load_balance_hosts() == LoadBalanceHosts::Random && endpoints.len() > 1 {
        let turn = std::process::id() as usize % endpoints.len();
        endpoints.rotate_left(turn);
    }
    Ok(endpoints)
}

fn decode(raw: &str) -> Result<String, SourceError> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let escaped = rest
            .split_first_chunk::<2>()
            .and_then(|(digits, after)| Some((std::str::from_utf8(digits).ok()?, after)))
            .and_then(|(digits, after)| Some((u8::from_str_radix(digits, 16).ok()?, after)));
        let Some((byte, after)) = escaped else {
            return Err(usage(
                "a parameter of the connection URL has a `%` that is not followed by two hexadecimal digits: write `%` as %25",
            ));
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| usage("a parameter of the connection URL is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn parse(url: &str) -> Result<Target, String> {
        Target::parse(url, &PostgresOptions::default()).map_err(|error| error.message)
    }

    #[test]
    fn modes_follow_libpq() {
        for (query, mode) in [
            ("", TlsMode::Prefer),
            ("?sslmode=disable", TlsMode::Disable),
            ("?sslmode=allow", TlsMode::Allow),
            ("?sslmode=require", TlsMode::Require),
            ("?sslmode=verify-ca&sslrootcert=/ca", TlsMode::VerifyCa),
            ("?sslrootcert=/ca", TlsMode::VerifyFull),
            ("?sslmode=require&sslrootcert=%2Fca", TlsMode::VerifyCa),
        ] {
            assert_eq!(
                parse(&format!("postgres://u@h/d{query}")).unwrap().tls.mode,
                mode,
                "{query}"
            );
        }
        let options = PostgresOptions {
            ca_file: Some("/ca".into()),
            ..Default::default()
        };
        assert_eq!(
            Target::parse("postgres://u@h/d", &options)
                .unwrap()
                .tls
                .mode,
            TlsMode::VerifyFull
        );
        assert!(
            parse("postgres://u@h/d?sslmode=sure")
                .is_err_and(|message| message.contains("sslmode"))
        );
    }

    #[test]
    fn hosts_and_sockets() {
        let target =
            parse("postgresql://u:p%40ss@a:1,[::1]:2/d?options=-c%20geqo%3Doff&gssencmode=prefer")
                .unwrap();
        assert_eq!(target.endpoints.len(), 2);
        assert_eq!(
            target.endpoints[1],
            Endpoint::Tcp {
                name: "::1".into(),
                address: "::1".into(),
                port: 2
            }
        );
        let target = parse("postgres:///d?host=/run/postgresql&port=5433").unwrap();
        assert_eq!(
            target.endpoints[0],
            Endpoint::Unix {
                folder: "/run/postgresql".into(),
                port: 5433
            }
        );
        let target = parse("postgres://u@db.example/d?hostaddr=10.0.0.1").unwrap();
        assert_eq!(
            target.endpoints[0],
            Endpoint::Tcp {
                name: "db.example".into(),
                address: "10.0.0.1".into(),
                port: 5432
            }
        );
    }

    #[test]
    fn no_message_repeats_the_password() {
        for url in [
            "postgres://u:s3cret@w0rd@h/d",
            "postgres://u:s3cret@h:s3cret/d",
            "postgres://u:s3cret@h/d?nonsense=1",
            "postgres://u:s3cret@h/d?sslcert=%zz",
            "mysql://u:s3cret@h/d",
        ] {
            let message = parse(url).err().unwrap();
            assert!(
                !message.contains("s3cret") && !message.contains("w0rd"),
                "{message}"
            );
        }
    }
}
