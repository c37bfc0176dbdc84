//! Copies that the service makes by itself.

use http::{HeaderName, Method};

use super::super::request::{element, encoded};
use super::super::{Carry, Home, Listed, ObjectError, ObjectErrorKind, Written};
use super::S3Objects;
use super::answer;

/// The largest object that is copied by one request, in bytes.
const LARGEST_COPY_BYTES: u64 = 5 << 30;

impl S3Objects {
    /// Copies an object of another place of the same service to `key`.
    pub(super) async fn copy(
        &self,
        home: &Home,
        object: &Listed,
        key: &str,
        carry: Carry,
    ) -> Result<Written, ObjectError> {
        let full = self.address(key)?;
        let from = encoded(&format!("/{}/{}{}", home.bucket, home.prefix, object.key));
        if object.bytes > LARGEST_COPY_BYTES {
            let what = format!("{key:?} is larger than S3 copies by one request");
            return Err(ObjectError::new(ObjectErrorKind::Impossible, key, what));
        }
        let mut ask = self
            .ask(Method::PUT, key, &full, "copy to")
            .moving(object.bytes)
            .header(HeaderName::from_static("x-amz-copy-source"), &from);
        // By default both are copied. Stores that know no tags refuse even a word of
        // them: where nobody asked, none is said.
        if !carry.metadata {
            let name = HeaderName::from_static("x-amz-metadata-directive");
            ask = ask.header(name, "REPLACE");
        }
        if carry.tags {
            let name = HeaderName::from_static("x-amz-tagging-directive");
            ask = ask.header(name, "COPY");
        }
        if let Some(etag) = &object.etag {
            let name = HeaderName::from_static("x-amz-copy-source-if-match");
            ask = ask.header(name, &format!("\"{etag}\""));
        }
        let text = self.client.send(ask).await?.text().await?;
        // The status was sent before the copy was done.
        answer::fail_on_error_body(&text, key)?;
        Ok(Written {
            etag: element(&text, "ETag").map(|etag| etag.trim_matches('"').to_owned()),
            modified_ns: None,
        })
    }
}
