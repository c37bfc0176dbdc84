//! An object written in parts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;

use super::super::request::{Ask, Client, element, header_text};
use super::super::{Describe, ObjectError, ObjectErrorKind, Parts, Written};
use super::answer::fail_on_error_body;
use super::dialect::Dialect;

/// A multipart upload.
pub(super) struct S3Parts {
    client: Client,
    dialect: Dialect,
    key: String,
    full: String,
    upload: String,
    /// Of the whole object.
    bytes: u64,
    etags: Mutex<BTreeMap<u32, String>>,
}

impl S3Parts {
    pub(super) async fn begin(
        client: &Client,
        dialect: Dialect,
        (key, full): (&str, String),
        bytes: u64,
        told: &Describe,
    ) -> Result<Self, ObjectError> {
        let ask = Ask::new(Method::POST, &full, key, "begin to write");
        let ask = ask.query("uploads", "");
        let ask = ask.headers(&dialect.told(&told.attributes));
        let text = client.send(ask).await?.text().await?;
        let upload = element(&text, "UploadId").ok_or_else(|| {
            let what = format!("cannot write {key:?}: the store names no upload");
            ObjectError::new(ObjectErrorKind::Broken, key, what)
        })?;
        Ok(Self {
            client: client.clone(),
            dialect,
            key: key.to_owned(),
            full,
            upload,
            bytes,
            etags: Mutex::default(),
        })
    }

    fn ask(&self, method: Method, doing: &'static str) -> Ask<'_> {
        Ask::new(method, &self.full, &self.key, doing)
    }
}

#[async_trait]
impl Parts for S3Parts {
    async fn part(&self, number: u32, _offset: u64, body: Bytes) -> Result<(), ObjectError> {
        let ask = self
            .ask(Method::PUT, "write a part of")
            .query("partNumber", &(number + 1).to_string())
            .query("uploadId", &self.upload)
            .headers(&self.dialect.check_of(&body))
            .body(body, None);
        let answer = self.client.send(ask).await?;
        let etag = header_text(answer.headers(), &http::header::ETAG).unwrap_or_default();
        let mut etags = self.etags.lock().unwrap_or_else(PoisonError::into_inner);
        etags.insert(number, etag);
        Ok(())
    }

    async fn complete(&self) -> Result<Written, ObjectError> {
        let mut xml = String::from("<CompleteMultipartUpload>");
        {
            let etags = self.etags.lock().unwrap_or_else(PoisonError::into_inner);
            for (number, etag) in etags.iter() {
                xml += &format!(
                    "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>",
                    number + 1,
                    quick_xml::escape::escape(etag.as_str())
                );
            }
        }
        xml += "</CompleteMultipartUpload>";
        let ask = self
            .ask(Method::POST, "complete")
            .query("uploadId", &self.upload)
            .header(http::header::CONTENT_TYPE, "application/xml")
            .body(xml.into(), None)
            // Some stores join the parts before they answer.
            .moving(self.bytes);
        let text = self.client.send(ask).await?.text().await?;
        // The status was sent before the parts were joined.
        fail_on_error_body(&text, &self.key)?;
        Ok(Written {
            etag: element(&text, "ETag").map(|etag| etag.trim_matches('"').to_owned()),
            modified_ns: None,
        })
    }

    async fn abandon(&self) {
        let ask = self
            .ask(Method::DELETE, "give up")
            .query("uploadId", &self.upload);
        // What stays is removed by the bucket's own rules.
        let _ = self.client.send(ask).await;
    }
}
