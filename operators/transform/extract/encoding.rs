//! Bytes to characters: a byte order mark, then UTF-8 where it is valid, then what
//! the document declares, then what it most probably is.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// Where HTML must declare its encoding (HTML standard, 4.2.5.4).
const DECLARED_WITHIN_BYTES: usize = 1024;
/// How much is looked at to guess an encoding.
const GUESS_BYTES: usize = 64 << 10;

/// Text without a declaration of its own.
pub(super) fn decode(contents: &[u8]) -> Cow<'_, str> {
    decode_as(contents, None)
}

/// HTML: `<meta charset=...>`, `http-equiv` and the XML declaration count.
pub(super) fn decode_html(contents: &[u8]) -> Cow<'_, str> {
    let start = &contents[..contents.len().min(DECLARED_WITHIN_BYTES)];
    decode_as(
        contents,
        declared(start, "charset=").or_else(|| declared(start, "encoding=")),
    )
}

fn declared(start: &[u8], name: &str) -> Option<&'static Encoding> {
    let start = String::from_utf8_lossy(start).to_ascii_lowercase();
    let value = start.split(name).nth(1)?.trim_start_matches(['"', '\'']);
    let end = value.find(|c: char| !c.is_ascii_alphanumeric() && !"-_:.".contains(c));
    Encoding::for_label(&value.as_bytes()[..end.unwrap_or(value.len())])
}

fn decode_as<'c>(contents: &'c [u8], declared: Option<&'static Encoding>) -> Cow<'c, str> {
    if Encoding::for_bom(contents).is_some() {
        return UTF_8.decode(contents).0;
    }
    if let Ok(text) = std::str::from_utf8(contents) {
        return Cow::Borrowed(text);
    }
    let encoding = declared
        .filter(|encoding| *encoding != UTF_8)
        .unwrap_or_else(|| guess(contents));
    encoding.decode(contents).0
}

fn guess(contents: &[u8]) -> &'static Encoding {
    let start = &contents[..contents.len().min(GUESS_BYTES)];
    // One stray byte does not make a text of UTF-8 into something else.
    let broken = String::from_utf8_lossy(start).matches('\u{fffd}').count();
    let wide = start.iter().filter(|byte| **byte >= 0x80).count();
    if wide > 20 * broken {
        return UTF_8;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(start, true);
    detector.guess(None, Utf8Detection::Allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_found() {
        assert_eq!(decode("\u{feff}naïve".as_bytes()), "naïve");
        assert_eq!(decode(b"\xff\xfeh\0i\0"), "hi");
        assert_eq!(decode(b"\xfe\xff\0h\0i"), "hi");
        assert_eq!(
            decode(b"Caf\xe9 cr\xe8me br\xfbl\xe9e"),
            "Café crème brûlée"
        );
        assert_eq!(
            decode_html(b"<meta charset=\"koi8-r\"><p>\xf0\xd2\xc9"),
            "<meta charset=\"koi8-r\"><p>При"
        );
        let xml = b"<?xml version=\"1.0\" encoding='iso-8859-2'?><p>\xb3";
        assert!(decode_html(xml).ends_with('ł'));
    }

    #[test]
    fn one_broken_byte_stays_one() {
        let mut text = "naïve Übergröße für jeden. ".repeat(10).into_bytes();
        text.push(0xff);
        assert_eq!(decode(&text).matches('\u{fffd}').count(), 1);
    }
}
