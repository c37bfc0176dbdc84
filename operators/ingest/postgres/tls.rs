//! Encryption as libpq means it: `sslmode`, `sslrootcert`, client certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater::source::SourceError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::error::usage;

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// Never encrypt.
    Disable,
    /// Encrypt only where the server refuses otherwise.
    Allow,
    /// Encrypt where the server can; verify nothing.
    Prefer,
    /// Encrypt; verify nothing.
    Require,
    /// Encrypt; the certificate must come from the CA.
    VerifyCa,
    /// Encrypt; the certificate must come from the CA and name the host.
    VerifyFull,
}

impl TlsMode {
    /// The mode of that name.
    pub(super) fn parse(name: &str) -> Result<Self, SourceError> {
        Ok(match name {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(usage(format!(
                    "sslmode={name} is not known: it is one of disable, allow, prefer, require, verify-ca, verify-full"
                )));
            }
        })
    }
}

/// What the URL and the options say of encryption.
#[derive(Debug, Clone)]
pub(super) struct TlsSettings {
    /// Whether to encrypt and what to verify.
    pub(super) mode: TlsMode,
    /// A file of CA certificates, or `system`.
    pub(super) root: Option<String>,
    /// The client's certificate.
    pub(super) certificate: Option<PathBuf>,
    /// The key of the client's certificate.
    pub(super) key: Option<PathBuf>,
}

impl TlsSettings {
    /// The configuration of a TLS client. Reads the certificate files.
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, SourceError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self.mode {
            TlsMode::VerifyCa | TlsMode::VerifyFull => Arc::new(self.chain(&provider)?),
            _ => Arc::new(Unverified(Arc::clone(&provider))),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| usage(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(certificates(certificate, "sslcert")?, private_key(key)?)
                .map_err(|error| {
                    usage(format!("sslcert and sslkey do not fit together: {error}"))
                })?,
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(usage("a client certificate needs both sslcert and sslkey")),
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Arc::new(config))
    }

    fn chain(&self, provider: &Arc<CryptoProvider>) -> Result<Chain, SourceError> {
        let pinned = self.roots()?;
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(pinned.iter().cloned());
        if added == 0 {
            return Err(usage(
                "no usable CA certificate was found: name a PEM file by sslrootcert",
            ));
        }
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
                .build()
                .map_err(|error| usage(format!("the CA certificates cannot be used: {error}")))?;
        Ok(Chain {
            inner,
            pinned,
            check_name: self.mode == TlsMode::VerifyFull,
        })
    }

    /// The CA certificates: the file named, libpq's usual one, or the system's.
    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, SourceError> {
        let usual = std::env::home_dir().map(|home| home.join(".postgresql/root.crt"));
        match (&self.root, usual) {
            (Some(file), _) if file != "system" => certificates(Path::new(file), "sslrootcert"),
            (None, Some(usual)) if usual.exists() => certificates(&usual, "sslrootcert"),
            _ => Ok(rustls_native_certs::load_native_certs().certs),
        }
    }
}

fn certificates(file: &Path, parameter: &str) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let unreadable = |error: rustls::pki_types::pem::Error| {
        usage(format!(
            "{parameter}: {} cannot be read as PEM certificates ({error})",
            file.display()
        ))
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(usage(format!(
            "{parameter}: {} holds no certificate",
            file.display()
        )));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, SourceError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        usage(format!(
            "sslkey: {} cannot be read as an unencrypted PEM key ({error})",
            file.display()
        ))
    })
}

/// Accepts any certificate: `require` and below ask only for encryption.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies the chain to a CA, and the name only where that is asked for.
#[derive(Debug)]
struct Chain {
    inner: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    check_name: bool,
}

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self
            .inner
            .verify_server_cert(end_entity, intermediates, name, ocsp, now)
        {
            // The chain was verified before the name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_name => Ok(ServerCertVerified::assertion()),
            // A self-signed certificate is often its own CA: libpq accepts the
            // very certificate that was named.
            Err(_)
                if self
                    .pinned
                    .iter()
                    .any(|root| root.as_ref() == end_entity.as_ref()) =>
            {
                if self.check_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
