//! A URL and options become a client of one container.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::azure::AzureConfigKey;
use url::Url;

use super::super::request::{Client, Signer, cannot_use};
use crate::store::cloud;
use crate::store::error::{StoreError, StoreErrorKind};

/// Options that would have to be kept by every request, and are not yet.
const NOT_KEPT: &[AzureConfigKey] = &[AzureConfigKey::EncryptionKey];

/// Where the emulator is, and who asks it, unless something else is said.
const EMULATOR: &str = "http://127.0.0.1:10000";
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";

/// A client, and the service that it asks.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) service: String,
    /// Whether a listing may begin anywhere.
    pub(super) begins_anywhere: bool,
}

/// A container of Azure, or of its emulator.
pub(super) fn azure(url: &Url, options: &BTreeMap<String, String>) -> Result<Opened, StoreError> {
    let container = url.host_str().unwrap_or_default();
    let builder = cloud::az_builder(options)?.with_container_name(container);
    let told = |key| builder.get_config_value(&key);
    let is_set = |key| cloud::is_on(told(key));
    if let Some(option) = NOT_KEPT.iter().find(|key| told(**key).is_some()) {
        let name: &str = option.as_ref();
        let what = format!("option `{name}` is not known to object-sync; leave it out");
        return Err(StoreError::new(StoreErrorKind::Usage, what));
    }
    let is_emulator = is_set(AzureConfigKey::UseEmulator);
    let account = told(AzureConfigKey::AccountName);
    let account = account.or_else(|| is_emulator.then(|| EMULATOR_ACCOUNT.to_owned()));
    let account = account.unwrap_or_default();
    let service = match is_emulator {
        true => {
            // As `object_store` finds it.
            let found = std::env::var("AZURITE_BLOB_STORAGE_URL");
            let found = found.unwrap_or_else(|_| EMULATOR.to_owned());
            format!("{}/{account}", found.trim_end_matches('/'))
        }
        false => {
            let fabric = is_set(AzureConfigKey::UseFabricEndpoint);
            told(AzureConfigKey::Endpoint).unwrap_or_else(|| match fabric {
                true => format!("https://{account}.blob.fabric.microsoft.com"),
                false => format!("https://{account}.blob.core.windows.net"),
            })
        }
    };
    let skip = is_set(AzureConfigKey::SkipSignature);
    let connections = match is_emulator {
        true => builder.clone().with_allow_http(true),
        false => builder.clone(),
    };
    let store = builder.build().map_err(|error| cannot_use(url, &error))?;
    let address = format!("{}/{container}", service.trim_end_matches('/'));
    let signer = Signer::Azure {
        credentials: (!skip).then(|| Arc::clone(store.credentials())),
        account,
    };
    let told = |key| connections.get_config_value(&AzureConfigKey::Client(key));
    Ok(Opened {
        client: Client::new(url, &address, signer, told)?,
        begins_anywhere: begins_anywhere(&service),
        service,
    })
}

/// Whether the word with which a listing begins anywhere (`startFrom`) may be said to a
/// service: only to Azure's own. Others do not refuse it: the emulator passes it over,
/// and OneLake answers that there is nothing, which would be taken for the truth.
fn begins_anywhere(service: &str) -> bool {
    let address = Url::parse(service);
    let host = address.as_ref().ok().and_then(Url::host_str);
    host.is_some_and(|host| host.contains(".blob.core."))
}

#[cfg(test)]
mod tests {
    use super::begins_anywhere;

    #[test]
    fn only_azures_own_service_is_asked_to_begin_anywhere() {
        for service in [
            "https://account.blob.core.windows.net",
            "https://account.blob.core.usgovcloudapi.net/",
        ] {
            assert!(begins_anywhere(service), "{service}");
        }
        for service in [
            "https://onelake.blob.fabric.microsoft.com",
            "http://127.0.0.1:10000/account.blob.core.windows.net",
            "https://objects.example.org",
            "",
        ] {
            assert!(!begins_anywhere(service), "{service}");
        }
    }
}
