//! Can this store tell two writers apart? (C6)

use object_store::path::Path;
use object_store::{Error, PutMode, PutOptions};

use super::{Store, StoreError, StoreErrorKind};

/// Whether a store honours put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditional {
    /// The second of two puts is refused.
    Supported,
    /// Both puts succeed, or the store does not know the request: a second
    /// writer must be refused by other means.
    Unsupported,
}

/// Puts one small object twice, if absent, and sees whether the second is
/// refused. Costs nothing for local folders, which always can. Run it once, on
/// the first use of a lake.
///
/// # Errors
/// The store cannot be written at all.
pub async fn probe_conditional_put(store: &Store) -> Result<Conditional, StoreError> {
    if store.folder().is_some() {
        return Ok(Conditional::Supported);
    }
    // It stays: the next run finds out with one request, and nothing is deleted.
    put_twice(store, &Path::from("_highwater/probe")).await
}

async fn put_twice(store: &Store, path: &Path) -> Result<Conditional, StoreError> {
    let doing = format!("write {} (a probe for put-if-absent)", store.url_of(path));
    let mut attempts = 0;
    for content in ["first", "second"] {
        loop {
            let create = PutOptions {
                mode: PutMode::Create,
                ..PutOptions::default()
            };
            match store
                .single_shot()
                .put_opts(path, content.into(), create)
                .await
            {
                Ok(_) if content == "second" => return Ok(Conditional::Unsupported),
                Ok(_) => break,
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    return Ok(Conditional::Supported);
                }
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                    return Ok(Conditional::Unsupported);
                }
                Err(error) => {
                    let said = StoreError::from_object_store(&error, &doing);
                    // A store that does not know the header answers 501.
                    if said.message.contains("status code: 501") {
                        return Ok(Conditional::Unsupported);
                    }
                    attempts += 1;
                    if said.kind != StoreErrorKind::Unavailable || attempts > 5 {
                        return Err(said);
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(200 * attempts)).await;
                }
            }
        }
    }
    Ok(Conditional::Unsupported)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;

    use object_store::ObjectStore;
    use object_store::aws::{AmazonS3Builder, S3ConditionalPut};

    use super::super::faults::FaultyStore;
    use super::*;

    #[tokio::test]
    async fn c6_a_store_that_refuses_the_second_put_is_supported() {
        let faulty = FaultyStore::new("never", vec![], None);
        for _ in 0..2 {
            let probed = probe_conditional_put(&faulty.store()).await.unwrap();
            assert_eq!(probed, Conditional::Supported);
        }
        assert_eq!(faulty.count("delete"), 0, "nothing is deleted");
    }

    #[tokio::test]
    async fn c6_a_store_without_the_request_is_unsupported() {
        let client: Arc<dyn ObjectStore> = Arc::new(
            AmazonS3Builder::new()
                .with_bucket_name("b")
                .with_endpoint("http://127.0.0.1:9")
                .with_allow_http(true)
                .with_access_key_id("a")
                .with_secret_access_key("b")
                .with_retry(object_store::RetryConfig {
                    max_retries: 0,
                    ..Default::default()
                })
                .with_conditional_put(S3ConditionalPut::Disabled)
                .build()
                .unwrap(),
        );
        let url = url::Url::parse("s3://b/").unwrap();
        let store = Store::from_clients(Arc::clone(&client), client, url);
        let probed = probe_conditional_put(&store).await.unwrap();
        assert_eq!(probed, Conditional::Unsupported);
    }
}
