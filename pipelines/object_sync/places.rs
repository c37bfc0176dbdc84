//! How places are written: folders, URLs, packed tables.

use highwater::app::Failure;

/// Before the URL of a packed table.
pub(super) const PACK: &str = "pack:";

/// Before a folder.
const FOLDER: &str = "file:";

/// Before a bucket, with two slashes; with one it is a mistake, not a folder.
const BUCKETS: [&str; 3] = ["s3:", "gs:", "az:"];

/// A URL as it is; anything else is a local folder. Each may be a packed table.
pub(super) fn place(text: &str) -> String {
    if let Some(packed) = text.strip_prefix(PACK) {
        return format!("{PACK}{}", place(packed));
    }
    match text.contains("://") || text.starts_with(FOLDER) || bucket(text).is_some() {
        true => text.to_owned(),
        false => format!("{FOLDER}{text}"),
    }
}

/// What follows the scheme of a bucket.
fn bucket(url: &str) -> Option<&str> {
    BUCKETS.iter().find_map(|scheme| url.strip_prefix(scheme))
}

/// Refuses what is no place, in the words of this binary.
///
/// # Errors
/// It is none.
pub(super) fn refuse_unknown(url: &str) -> Result<(), Failure> {
    let what = match (url, bucket(url)) {
        (_, Some(rest)) if rest.starts_with("//") => return Ok(()),
        (url, None) if url.starts_with(FOLDER) => return Ok(()),
        ("", _) => "two places are needed: what to copy, and to where".to_owned(),
        (_, Some(_)) => format!("after {} come two slashes", BUCKETS.join(" or ")),
        // Whatever it is, it may hold a password.
        (url, None) if url.contains('@') => "that is no place of objects".to_owned(),
        (url, None) => format!("`{url}` is no place of objects"),
    };
    Err(Failure::usage(what).hint(
        "name a folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix: \
         object-sync run SOURCE TARGET",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_is_a_folder() {
        for (text, url) in [
            ("photos", "file:photos"),
            ("/a b", "file:/a b"),
            ("file:x", "file:x"),
            ("s3://b/x", "s3://b/x"),
            ("s3:x", "s3:x"),
            ("https://x", "https://x"),
            ("pack:photos", "pack:file:photos"),
            ("pack:gs://b", "pack:gs://b"),
        ] {
            assert_eq!(place(text), url);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for url in ["file:x", "s3://b/x", "gs://b", "az://c/x"] {
            assert!(refuse_unknown(url).is_ok(), "{url}");
        }
        for (url, what) in [
            ("", "two places are needed"),
            ("s3:b/x", "come two slashes"),
            ("https://x", "`https://x` is no place"),
            ("ftp://me:secret@host", "that is no place"),
        ] {
            let error = refuse_unknown(url).map_err(|failure| failure.to_string());
            assert!(
                error.as_ref().is_err_and(|said| said.contains(what)),
                "{url}: {error:?}"
            );
            assert!(!error.is_err_and(|said| said.contains("secret")));
        }
    }
}
