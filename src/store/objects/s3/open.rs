//! A URL and options become a client of one bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ClientConfigKey;
use object_store::aws::AmazonS3ConfigKey;
use object_store::gcp::GoogleConfigKey;
use url::Url;

use super::super::request::{Client, Signer, cannot_use};
use crate::store::cloud;
use crate::store::error::{StoreError, StoreErrorKind};

/// Options that would have to be kept by every request, and are not yet.
const NOT_KEPT: &[&str] = &[
    "server_side_encryption",
    "sse_kms_key_id",
    "sse_bucket_key_enabled",
    "sse_customer_key_base64",
    "s3_express",
    "checksum_algorithm",
];

/// Where Google is, unless an option says otherwise.
const GOOGLE: &str = "https://storage.googleapis.com";

/// A client, the service that it asks, and who asks.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) endpoint: String,
    pub(super) user: String,
}

/// A bucket of S3.
pub(super) fn amazon(url: &Url, options: &BTreeMap<String, String>) -> Result<Opened, StoreError> {
    let bucket = url.host_str().unwrap_or_default();
    let builder = cloud::s3_builder(options)?.with_bucket_name(bucket);
    let told = |key| builder.get_config_value(&key);
    let is_set = |key| cloud::is_on(told(key));
    // By whatever name, and from wherever: an option or the environment.
    let is_asked_for = |name: &&&str| {
        let told = name.parse::<AmazonS3ConfigKey>().ok().and_then(told);
        told.is_some_and(|told| told != "false")
    };
    if let Some(option) = NOT_KEPT.iter().find(is_asked_for) {
        let what = format!("option `{option}` is not known to object-sync; leave it out");
        return Err(StoreError::new(StoreErrorKind::Usage, what));
    }
    let region = told(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = told(AmazonS3ConfigKey::S3Endpoint).or(told(AmazonS3ConfigKey::Endpoint));
    let virtual_hosted = is_set(AmazonS3ConfigKey::VirtualHostedStyleRequest);
    let endpoint_or = |or: String| endpoint.clone().unwrap_or(or);
    let address = match virtual_hosted {
        // An endpoint for it already names the bucket.
        true => endpoint_or(format!("https://{bucket}.s3.{region}.amazonaws.com")),
        false => format!(
            "{}/{bucket}",
            endpoint_or(format!("https://s3.{region}.amazonaws.com")).trim_end_matches('/')
        ),
    };
    let skip = is_set(AmazonS3ConfigKey::SkipSignature);
    let user = told(AmazonS3ConfigKey::AccessKeyId).unwrap_or_default();
    let connections = builder.clone();
    // It only fetches credentials: without need it need not read certificates.
    let known = told(AmazonS3ConfigKey::SecretAccessKey).is_some();
    let none = AmazonS3ConfigKey::Client(ClientConfigKey::NoSystemCertificates);
    let sign_payload = !is_set(AmazonS3ConfigKey::UnsignedPayload);
    let request_payer = is_set(AmazonS3ConfigKey::RequestPayer);
    let builder = match known {
        true => builder.with_config(none, "true"),
        false => builder,
    };
    let store = builder.build().map_err(|error| cannot_use(url, &error))?;
    let signer = Signer::Amazon {
        credentials: (!skip).then(|| Arc::clone(store.credentials())),
        region,
        sign_payload,
        request_payer,
    };
    let told = |key| connections.get_config_value(&AmazonS3ConfigKey::Client(key));
    Ok(Opened {
        client: Client::new(url, &address, signer, told)?,
        endpoint: endpoint.unwrap_or_default(),
        user,
    })
}

/// A bucket of Google's.
pub(super) fn google(url: &Url, options: &BTreeMap<String, String>) -> Result<Opened, StoreError> {
    let bucket = url.host_str().unwrap_or_default();
    let builder = cloud::gs_builder(options)?.with_bucket_name(bucket);
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let endpoint = endpoint.unwrap_or_else(|| GOOGLE.to_owned());
    let address = format!("{}/{bucket}", endpoint.trim_end_matches('/'));
    let skip = builder.get_config_value(&GoogleConfigKey::SkipSignature);
    let connections = builder.clone();
    let store = builder.build().map_err(|error| cannot_use(url, &error))?;
    let signer = Signer::Google {
        credentials: (!cloud::is_on(skip)).then(|| Arc::clone(store.credentials())),
    };
    let told = |key| connections.get_config_value(&GoogleConfigKey::Client(key));
    Ok(Opened {
        client: Client::new(url, &address, signer, told)?,
        endpoint,
        user: String::new(),
    })
}
