//! What Azure answers in XML.

use base64::Engine as _;
use md5::{Digest as _, Md5};

use super::super::request::element;
use super::super::{Listed, ObjectError, ObjectErrorKind};

/// A page of a listing.
#[derive(Debug, Default)]
pub(super) struct ListAnswer {
    /// The objects, by their full keys.
    pub(super) objects: Vec<Listed>,
    /// The folders, each with its `/`.
    pub(super) folders: Vec<String>,
    /// Where the next page begins.
    pub(super) next: Option<String>,
    /// Whether nothing in it tells of a hierarchy of folders.
    pub(super) is_flat: bool,
}

impl ListAnswer {
    /// Understands a document. Names are cut out of it as they stand: spaces at either
    /// end belong to them.
    pub(super) fn parse(text: &str, url: &str) -> Result<Self, ObjectError> {
        let strange = || {
            let what = format!("cannot understand the listing of {url}");
            ObjectError::new(ObjectErrorKind::Broken, "", what)
        };
        // What broke off must not look as if nothing more came.
        if !text.trim_end().ends_with("</EnumerationResults>") {
            return Err(strange());
        }
        let blobs = text.split("<Blob>").skip(1).filter(|blob| !is_folder(blob));
        let objects: Option<Vec<_>> = blobs.map(object).collect();
        let folders = text.split("<BlobPrefix>").skip(1);
        Ok(Self {
            objects: objects.ok_or_else(strange)?,
            folders: folders.filter_map(name).collect(),
            next: element(text, "NextMarker").filter(|next| !next.is_empty()),
            is_flat: !text.contains("<ResourceType>"),
        })
    }
}

/// Folders of a hierarchical namespace stand beside objects.
fn is_folder(blob: &str) -> bool {
    element(blob, "ResourceType").as_deref() == Some("directory")
}

fn object(blob: &str) -> Option<Listed> {
    let etag = element(blob, "Etag");
    Some(Listed {
        key: name(blob)?,
        bytes: element(blob, "Content-Length")?.parse().ok()?,
        modified_ns: nanoseconds(&element(blob, "Last-Modified").unwrap_or_default()),
        etag: etag
            .map(|etag| etag.trim_matches('"').to_owned())
            .filter(|etag| !etag.is_empty()),
    })
}

/// The first name. What XML cannot carry is encoded, and said to be.
fn name(text: &str) -> Option<String> {
    const ENCODED: &str = "<Name Encoded=\"true\">";
    let begin = text.find("<Name")?;
    let rest = text.get(begin..)?;
    if !rest.starts_with(ENCODED) {
        return element(rest, "Name");
    }
    let inside = rest.get(ENCODED.len()..rest.find("</Name>")?)?;
    let plain = quick_xml::escape::unescape(inside).ok()?;
    let name = percent_encoding::percent_decode_str(&plain).decode_utf8();
    name.ok().map(|name| name.into_owned())
}

/// A time as HTTP writes it.
pub(super) fn nanoseconds(time: &str) -> i64 {
    let time = chrono::DateTime::parse_from_rfc2822(time).ok();
    time.and_then(|time| time.timestamp_nanos_opt())
        .unwrap_or(0)
}

/// The MD5 of a content as a header has it.
pub(super) fn md5_base64(content: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(Md5::digest(content))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn page(blobs: &str, rest: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults \
             ContainerName=\"c\"><Blobs>{blobs}</Blobs>{rest}</EnumerationResults>"
        )
    }

    fn blob(name: &str, more: &str) -> String {
        format!(
            "<Blob>{name}<Properties><Last-Modified>Thu, 26 Nov 2026 18:54:36 GMT</Last-Modified>\
             <Etag>0x1F3</Etag><Content-Length>5</Content-Length>{more}</Properties></Blob>"
        )
    }

    #[test]
    fn a_listing_is_read_with_keys_of_every_kind() {
        let blobs = [
            blob("<Name> a  b </Name>", ""),
            blob("<Name>a&amp;&lt;b%20+</Name>", ""),
            blob("<Name Encoded=\"true\">a%EF%BF%BE%25</Name>", ""),
            blob(
                "<Name>folder</Name>",
                "<ResourceType>directory</ResourceType>",
            ),
            blob(
                "<Name>line\nbreak</Name>",
                "<ResourceType>file</ResourceType>",
            ),
            "<BlobPrefix><Name>x y/</Name></BlobPrefix>".to_owned(),
        ];
        let text = page(&blobs.concat(), "<NextMarker>2!4</NextMarker>");
        let answer = ListAnswer::parse(&text, "az://c").unwrap();
        let keys: Vec<_> = answer.objects.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, [" a  b ", "a&<b%20+", "a\u{fffe}%", "line\nbreak"]);
        assert_eq!(answer.objects[0].etag.as_deref(), Some("0x1F3"));
        assert_eq!(answer.objects[0].modified_ns, 1_795_719_276_000_000_000);
        assert_eq!(answer.folders, ["x y/"]);
        assert_eq!(answer.next.as_deref(), Some("2!4"));
    }

    #[test]
    fn what_broke_off_is_no_listing() {
        let whole = page(&blob("<Name>a</Name>", ""), "<NextMarker/>");
        assert_eq!(ListAnswer::parse(&whole, "az://c").unwrap().next, None);
        for end in 0..whole.len() {
            assert!(ListAnswer::parse(&whole[..end], "az://c").is_err());
        }
        let odd = page("<Blob><Name>a</Name></Blob>", "");
        assert!(ListAnswer::parse(&odd, "az://c").is_err());
    }
}
