//! Builders and options of the stores that are reached over the network.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ObjectStore, RetryConfig, StaticCredentialProvider};
use url::Url;

use super::error::{StoreError, StoreErrorKind, without_queries};

/// Who repeats a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// The client itself.
    ByClient,
    /// Nobody: the caller wants to know what happened (C2).
    Never,
}

impl Retry {
    fn config(self) -> RetryConfig {
        match self {
            Self::ByClient => RetryConfig::default(),
            Self::Never => RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            },
        }
    }
}

/// Options that every provider's HTTP client knows.
pub(super) const HTTP: &[&str] = &[
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "disable_system_certificates",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "randomize_addresses",
    "read_timeout",
    "timeout",
    "user_agent",
];

const S3: &[&str] = &[
    "access_key_id",
    "secret_access_key",
    "session_token",
    "region",
    "endpoint",
    "virtual_hosted_style_request",
    "unsigned_payload",
    "checksum_algorithm",
    "skip_signature",
    "imdsv1_fallback",
    "metadata_endpoint",
    "role_arn",
    "role_session_name",
    "web_identity_token_file",
    "s3_express",
    "conditional_put",
    "copy_if_not_exists",
    "disable_tagging",
    "disable_bulk_delete",
    "request_payer",
    "server_side_encryption",
    "sse_kms_key_id",
    "sse_bucket_key_enabled",
    "sse_customer_key_base64",
];

const GS: &[&str] = &[
    "service_account",
    "service_account_path",
    "service_account_key",
    "application_credentials",
    "bearer_token",
    "skip_signature",
    "base_url",
    "endpoint",
];

const AZ: &[&str] = &[
    "account_name",
    "account_key",
    "client_id",
    "client_secret",
    "tenant_id",
    "sas_key",
    "bearer_token",
    "skip_signature",
    "endpoint",
    "use_emulator",
    "use_azure_cli",
    "msi_endpoint",
    "federated_token_file",
];

/// Builds the client of one bucket or container.
pub(super) fn build(
    url: &Url,
    options: &BTreeMap<String, String>,
    retry: Retry,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let bucket = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| {
            let message = format!(
                "{url} names no bucket; write {}://bucket/prefix",
                url.scheme()
            );
            StoreError::new(StoreErrorKind::Usage, message)
        })?;
    let failed = |error: object_store::Error| {
        let detail = without_queries(&error.to_string());
        let message = format!("cannot use {url}: {detail}; check the lake's options");
        StoreError::new(StoreErrorKind::Usage, message)
    };
    let config = retry.config();
    match url.scheme() {
        "s3" => {
            let builder = s3_builder(options)?;
            let store = builder.with_bucket_name(bucket).with_retry(config).build();
            Ok(Arc::new(store.map_err(failed)?))
        }
        "gs" => {
            let builder = gs_builder(options)?;
            let store = builder.with_bucket_name(bucket).with_retry(config).build();
            Ok(Arc::new(store.map_err(failed)?))
        }
        _ => {
            let store = az_builder(options)?
                .with_container_name(bucket)
                .with_retry(config)
                .build();
            Ok(Arc::new(store.map_err(failed)?))
        }
    }
}

/// What the environment and the options say of an S3 bucket.
pub(super) fn s3_builder(
    options: &BTreeMap<String, String>,
) -> Result<AmazonS3Builder, StoreError> {
    let mut builder = AmazonS3Builder::from_env();
    for (key, value) in keys::<AmazonS3ConfigKey>(options, "s3", S3)? {
        builder = builder.with_config(key, value);
    }
    Ok(builder)
}

/// Whether a switch is on, in all the words that `object_store` takes for it.
pub(super) fn is_on(told: Option<String>) -> bool {
    let told = told.unwrap_or_default().to_ascii_lowercase();
    matches!(told.as_str(), "1" | "true" | "on" | "yes" | "y")
}

/// What the environment and the options say of a bucket of Google's.
pub(super) fn gs_builder(
    options: &BTreeMap<String, String>,
) -> Result<GoogleCloudStorageBuilder, StoreError> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    for (name, value) in options {
        // Every other service calls it so.
        let name = match name.as_str() {
            "endpoint" => "base_url",
            name => name,
        };
        let one = BTreeMap::from([(name.to_owned(), value.clone())]);
        for (key, value) in keys::<GoogleConfigKey>(&one, "gs", GS)? {
            builder = builder.with_config(key, value);
        }
    }
    let skip = builder.get_config_value(&GoogleConfigKey::SkipSignature);
    if is_on(skip) {
        // Else writes would ask this machine for a token.
        let nobody = GcpCredential {
            bearer: String::new(),
        };
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
    }
    Ok(builder)
}

/// What the environment and the options say of a container of Azure.
pub(super) fn az_builder(
    options: &BTreeMap<String, String>,
) -> Result<MicrosoftAzureBuilder, StoreError> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    for (key, value) in keys::<AzureConfigKey>(options, "az", AZ)? {
        builder = builder.with_config(key, value);
    }
    Ok(builder)
}

/// The options as the provider's own keys; an unknown one is an error that names
/// the nearest known.
fn keys<K: FromStr>(
    options: &BTreeMap<String, String>,
    scheme: &str,
    known: &[&'static str],
) -> Result<Vec<(K, String)>, StoreError> {
    options
        .iter()
        .map(|(name, value)| {
            let key = name.to_ascii_lowercase().parse::<K>();
            key.map(|key| (key, value.clone()))
                .map_err(|_| unknown(name, scheme, known))
        })
        .collect()
}

fn unknown(name: &str, scheme: &str, known: &[&'static str]) -> StoreError {
    let nearest = known
        .iter()
        .chain(HTTP)
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
        .copied()
        .unwrap_or_default();
    let message = format!("`{name}` is not an option of {scheme}://; the nearest is `{nearest}`");
    StoreError::new(StoreErrorKind::Usage, message)
}
