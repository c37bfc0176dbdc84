//! Who asks: each service has its own way to be told. The signatures are
//! `object_store`'s.

use http::{HeaderMap, HeaderName, HeaderValue};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider};
use object_store::client::HttpRequest;
use object_store::gcp::{GcpCredential, GcpCredentialProvider};
use sha2::{Digest as _, Sha256};

use super::super::{ObjectError, ObjectErrorKind};

/// Which of its interfaces Azure is asked for; those who sign say it with the signature.
const VERSION: HeaderName = HeaderName::from_static("x-ms-version");
const ANONYMOUS: HeaderValue = HeaderValue::from_static("2023-11-03");

/// Who asks, and how requests say so; without credentials they say nothing.
#[derive(Debug)]
pub(in super::super) enum Signer {
    /// Signature version 4.
    Amazon {
        credentials: Option<AwsCredentialProvider>,
        region: String,
        sign_payload: bool,
        request_payer: bool,
    },
    /// A bearer's token.
    Google {
        credentials: Option<GcpCredentialProvider>,
    },
    /// A key of the account, a shared access signature or a bearer's token.
    Azure {
        credentials: Option<AzureCredentialProvider>,
        account: String,
    },
}

impl Signer {
    /// Signs a request whose body has this SHA-256, where it is known.
    pub(super) async fn sign(
        &self,
        request: &mut HttpRequest,
        sha256: Option<[u8; 32]>,
        key: &str,
    ) -> Result<(), ObjectError> {
        let signed = match self {
            Self::Amazon {
                credentials: Some(credentials),
                region,
                sign_payload,
                request_payer,
            } => {
                refuse_what_is_no_text(request.headers(), key)?;
                let credential = credentials.get_credential().await;
                let digest = digest_of(request, sha256).filter(|_| *sign_payload);
                credential.and_then(|credential| {
                    AwsAuthorizer::new(&credential, "s3", region)
                        .with_sign_payload(*sign_payload)
                        .with_request_payer(*request_payer)
                        .try_authorize(request, digest.as_ref().map(<[u8; 32]>::as_slice))
                })
            }
            Self::Google {
                credentials: Some(credentials),
            } => {
                let credential = credentials.get_credential().await;
                credential.map(|credential| bear(request.headers_mut(), &credential))
            }
            Self::Azure {
                credentials,
                account,
            } => {
                refuse_what_cannot_be_signed(request.headers(), key)?;
                match credentials {
                    Some(credentials) => {
                        let credential = credentials.get_credential().await;
                        credential.and_then(|credential| {
                            AzureAuthorizer::new(&credential, account).try_authorize(request)
                        })
                    }
                    None => {
                        request.headers_mut().insert(VERSION, ANONYMOUS);
                        Ok(())
                    }
                }
            }
            Self::Amazon { .. } | Self::Google { .. } => Ok(()),
        };
        signed.map_err(|error| ObjectError::from_object_store(&error, key, "get credentials"))
    }
}

fn digest_of(request: &HttpRequest, known: Option<[u8; 32]>) -> Option<[u8; 32]> {
    let body = request.body().as_bytes().filter(|body| !body.is_empty())?;
    Some(known.unwrap_or_else(|| Sha256::digest(body).into()))
}

fn bear(headers: &mut HeaderMap, credential: &GcpCredential) {
    if credential.bearer.is_empty() {
        return;
    }
    // A token that is no text will be refused.
    if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", credential.bearer)) {
        value.set_sensitive(true);
        headers.insert(http::header::AUTHORIZATION, value);
    }
}

/// S3's signature is made over text.
fn refuse_what_is_no_text(headers: &HeaderMap, key: &str) -> Result<(), ObjectError> {
    let odd = headers
        .iter()
        .find(|(_, value)| std::str::from_utf8(value.as_bytes()).is_err());
    let Some((name, _)) = odd else { return Ok(()) };
    let what = format!(
        "{key:?}: the value of its {name} is not UTF-8, which S3 cannot be told; --no-metadata \
         leaves it behind"
    );
    Err(ObjectError::new(ObjectErrorKind::Impossible, key, what))
}

/// Azure's signature is made over text in ASCII.
fn refuse_what_cannot_be_signed(headers: &HeaderMap, key: &str) -> Result<(), ObjectError> {
    let odd = headers.iter().find(|(_, value)| value.to_str().is_err());
    let Some((name, _)) = odd else { return Ok(()) };
    let what = format!(
        "{key:?}: the value of its {} is not ASCII, which Azure cannot keep; --no-metadata leaves \
         it behind",
        name.as_str().trim_start_matches("x-ms-")
    );
    Err(ObjectError::new(ObjectErrorKind::Impossible, key, what))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_signed_is_refused_by_name() {
        let mut headers = HeaderMap::new();
        headers.insert("content-disposition", HeaderValue::from_static("plain"));
        assert!(refuse_what_is_no_text(&headers, "k").is_ok());
        let latin = HeaderValue::from_bytes(b"filename=Gr\xfc\xdfe.pdf").unwrap();
        headers.insert("content-disposition", latin);
        let refused = refuse_what_is_no_text(&headers, "k").unwrap_err();
        assert_eq!(refused.kind, ObjectErrorKind::Impossible);
        assert!(
            refused.message.contains("content-disposition"),
            "{refused:?}"
        );
    }
}
