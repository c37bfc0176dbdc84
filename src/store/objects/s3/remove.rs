//! Objects removed: many by one request, where the service has one for that.

use http::{HeaderName, Method};

use super::super::ObjectError;
use super::super::request::remove_each;
use super::S3Objects;
use super::answer;
use super::dialect::Dialect;

/// Objects that one request removes.
pub(super) const KEYS_AT_ONCE: usize = 1000;

impl S3Objects {
    /// Removes objects; those that could not be removed, and why. Google has no request
    /// for many.
    pub(super) async fn remove(
        &self,
        keys: &[String],
    ) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        if self.dialect == Dialect::Google {
            let failed = remove_each(keys, |key| async move { self.delete_one(&key).await });
            return Ok(failed.await);
        }
        let mut failed = Vec::new();
        let mut xml = String::from("<Delete><Quiet>true</Quiet>");
        for key in keys {
            // In a document there is no address that could become another.
            let full = self.full(key);
            if full.chars().any(|c| c.is_control()) {
                if let Err(error) = self.delete_one(key).await {
                    failed.push((key.clone(), error));
                }
                continue;
            }
            xml += &format!(
                "<Object><Key>{}</Key></Object>",
                quick_xml::escape::escape(&full)
            );
        }
        xml += "</Delete>";
        if !xml.contains("<Object>") {
            return Ok(failed);
        }
        let md5 = answer::md5_base64(xml.as_bytes());
        let ask = self
            .ask(Method::POST, "", "", "remove objects of")
            .query("delete", "")
            .header(HeaderName::from_static("content-md5"), &md5)
            .header(http::header::CONTENT_TYPE, "application/xml")
            .body(xml.into(), None);
        let text = self.client.send(ask).await?.text().await?;
        for (full, kind, why) in answer::delete_errors(&text)? {
            let key = full.strip_prefix(&self.home.prefix).unwrap_or(&full);
            let what = format!("cannot remove {key:?} of {}: {why}", self.url);
            failed.push((key.to_owned(), ObjectError::new(kind, key, what)));
        }
        Ok(failed)
    }

    async fn delete_one(&self, key: &str) -> Result<(), ObjectError> {
        let full = self.address(key)?;
        let ask = self.ask(Method::DELETE, key, &full, "remove");
        self.client.send(ask).await.map(drop)
    }
}
