//! Encryption against a real server with a certificate of our own CA.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code
)]

#[path = "pg/mod.rs"]
mod pg;

use std::path::Path;
use std::process::Command;

use highwater::source::{SourceError, SourceErrorKind};
use highwater_operators::ingest::postgres::{PostgresOptions, open};
use pg::{Pg, run};

/// A CA `name.crt` and a certificate of it for `subject`.
fn authority(folder: &Path, name: &str, certificate: &str, subject: &str, names: Option<&str>) {
    let openssl = |line: &str| {
        run(Command::new("openssl")
            .current_dir(folder)
            .args(line.split(' ')))
    };
    openssl(&format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout {name}.key -out {name}.crt -subj /CN={name}"
    ));
    openssl(&format!(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {certificate}.key -out {certificate}.csr -subj /CN={subject}"
    ));
    let extension = names.map_or_else(
        || "basicConstraints=CA:FALSE".to_owned(),
        |names| format!("subjectAltName={names}"),
    );
    std::fs::write(folder.join("ext"), extension).unwrap();
    openssl(&format!(
        "x509 -req -in {certificate}.csr -CA {name}.crt -CAkey {name}.key -CAcreateserial -days 2 -out {certificate}.crt -extfile ext"
    ));
    run(Command::new("chmod")
        .current_dir(folder)
        .args(["600", &format!("{certificate}.key")]));
}

async fn attempt(url: &str) -> Result<(), SourceError> {
    open(url, PostgresOptions::default())?
        .identity()
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_of_encryption() {
    let settings = "ssl = on\nssl_cert_file = '../server.crt'\nssl_key_file = '../server.key'\nssl_ca_file = '../clients.crt'";
    let rules = "hostssl all certified 127.0.0.1/32 cert\nhostnossl all encrypted 127.0.0.1/32 reject\nhostssl all plain 127.0.0.1/32 reject";
    let server = Pg::start(settings, rules, |folder| {
        authority(folder, "ca", "server", "db.example", Some("DNS:localhost"));
        authority(folder, "other", "unused", "unused", None);
        authority(folder, "clients", "client", "certified", None);
    });
    let setup = server.client("postgres").await;
    setup
        .batch_execute(
            "CREATE ROLE certified LOGIN; CREATE ROLE encrypted LOGIN; CREATE ROLE plain LOGIN",
        )
        .await
        .unwrap();
    let (folder, port) = (server.folder.display().to_string(), server.port);
    let at = |user: &str, host: &str, query: &str| {
        let query = query.replace('@', &folder);
        format!("postgres://{user}@{host}:{port}/postgres?{query}")
    };
    for (user, host, query) in [
        ("postgres", "localhost", "sslrootcert=@/ca.crt"),
        (
            "postgres",
            "localhost",
            "sslmode=verify-full&sslrootcert=@/ca.crt",
        ),
        (
            "postgres",
            "127.0.0.1",
            "sslmode=verify-ca&sslrootcert=@/ca.crt",
        ),
        (
            "postgres",
            "127.0.0.1",
            "sslmode=require&sslrootcert=@/ca.crt",
        ),
        ("postgres", "127.0.0.1", "sslmode=require"),
        ("postgres", "localhost", "sslrootcert=@/server.crt"),
        ("encrypted", "127.0.0.1", "sslmode=prefer"),
        ("encrypted", "127.0.0.1", "sslmode=allow"),
        ("plain", "127.0.0.1", "sslmode=prefer"),
        ("plain", "127.0.0.1", "sslmode=disable"),
        (
            "certified",
            "localhost",
            "sslrootcert=@/ca.crt&sslcert=@/client.crt&sslkey=@/client.key",
        ),
    ] {
        attempt(&at(user, host, query))
            .await
            .unwrap_or_else(|error| panic!("{user} {host} {query}: {error}"));
    }
    for (user, host, query, kind, wanted) in [
        (
            "postgres",
            "localhost",
            "sslrootcert=@/other.crt",
            SourceErrorKind::Refused,
            "UnknownIssuer",
        ),
        (
            "postgres",
            "127.0.0.1",
            "sslmode=require&sslrootcert=@/other.crt",
            SourceErrorKind::Refused,
            "UnknownIssuer",
        ),
        (
            "postgres",
            "127.0.0.1",
            "sslrootcert=@/ca.crt",
            SourceErrorKind::Refused,
            "not valid for name",
        ),
        (
            "postgres",
            "localhost",
            "sslrootcert=@/nothing.crt",
            SourceErrorKind::Usage,
            "nothing.crt",
        ),
        (
            "encrypted",
            "127.0.0.1",
            "sslmode=disable",
            SourceErrorKind::Refused,
            "pg_hba.conf rejects connection",
        ),
        (
            "certified",
            "localhost",
            "sslrootcert=@/ca.crt",
            SourceErrorKind::Refused,
            "certificate",
        ),
    ] {
        let error = attempt(&at(user, host, query)).await.expect_err(query);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(wanted), "{query}: {error}");
    }
}
