//! An object written in blocks.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method};
use uuid::Uuid;

use super::super::request::{Ask, Client};
use super::super::{ObjectError, Parts, Written};
use super::answer::md5_base64;
use super::{CONTENT_MD5, tag_in};

/// Blocks that become an object when they are listed. The service drops those that
/// never are, after a week.
pub(super) struct Blocks {
    client: Client,
    key: String,
    full: String,
    told: HeaderMap,
    /// Of the whole object.
    bytes: u64,
    /// Told apart from the blocks of others who write to the same key.
    upload: Uuid,
    sent: Mutex<BTreeSet<u32>>,
}

impl Blocks {
    pub(super) fn new(
        client: &Client,
        (key, full): (&str, String),
        bytes: u64,
        told: HeaderMap,
    ) -> Self {
        Self {
            client: client.clone(),
            key: key.to_owned(),
            full,
            told,
            bytes,
            upload: Uuid::now_v7(),
            sent: Mutex::default(),
        }
    }

    /// The name of a block: as long as any other's, as the service wants it.
    fn id(&self, number: u32) -> String {
        STANDARD.encode(format!("{}-{number:08}", self.upload.simple()))
    }

    fn ask(&self, doing: &'static str) -> Ask<'_> {
        Ask::new(Method::PUT, &self.full, &self.key, doing)
    }
}

#[async_trait]
impl Parts for Blocks {
    async fn part(&self, number: u32, _offset: u64, body: Bytes) -> Result<(), ObjectError> {
        let ask = self
            .ask("write a part of")
            .query("comp", "block")
            .query("blockid", &self.id(number))
            .header(CONTENT_MD5, &md5_base64(&body))
            .body(body, None);
        self.client.send(ask).await?;
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.insert(number);
        Ok(())
    }

    async fn complete(&self) -> Result<Written, ObjectError> {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        {
            let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            for number in sent.iter() {
                // The latest: said again, after an answer was lost, it means the same.
                xml += &format!("<Latest>{}</Latest>", self.id(*number));
            }
        }
        xml += "</BlockList>";
        let ask = self
            .ask("complete")
            .query("comp", "blocklist")
            .headers(&self.told)
            .header(CONTENT_MD5, &md5_base64(xml.as_bytes()))
            .body(xml.into(), None)
            // It may join the blocks before it answers.
            .moving(self.bytes);
        let answer = self.client.send(ask).await?;
        Ok(Written {
            etag: tag_in(answer.headers()),
            modified_ns: None,
        })
    }

    async fn abandon(&self) {
        // There is nothing to give up.
    }
}
