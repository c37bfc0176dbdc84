//! From a connection URL to the canonical path of an existing file.

use std::path::PathBuf;

use highwater::source::{SourceError, SourceErrorKind};

/// The canonical path of the file that `url` names.
pub(super) fn locate(url: &str) -> Result<PathBuf, SourceError> {
    let written = path_of(url)?;
    let fail = |kind, why: &str| SourceError::new(kind, format!("{}: {why}", written.display()));
    let metadata = std::fs::metadata(&written).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => fail(
            SourceErrorKind::Usage,
            "no such file. Relative paths are taken from the working directory; an absolute one \
             is written sqlite:///absolute/path",
        ),
        std::io::ErrorKind::PermissionDenied => {
            fail(SourceErrorKind::Refused, "no permission to reach this file")
        }
        _ => fail(SourceErrorKind::Failed, "cannot look at this file").caused_by(error),
    })?;
    if !metadata.is_file() {
        return Err(fail(
            SourceErrorKind::Usage,
            "not a file: name the database file itself",
        ));
    }
    written
        .canonicalize()
        .map_err(|error| fail(SourceErrorKind::Failed, "cannot resolve this path").caused_by(error))
}

/// The path as written in the URL, percent-decoded.
pub(super) fn path_of(url: &str) -> Result<PathBuf, SourceError> {
    // What is not for us may be another database's URL, with a password in it.
    let shown = if url.contains('@') { "this URL" } else { url };
    let usage = |why: &str| {
        Err(SourceError::new(
            SourceErrorKind::Usage,
            format!("`{shown}`: {why}. Write sqlite:relative/path or sqlite:///absolute/path"),
        ))
    };
    let Some(rest) = url.strip_prefix("sqlite:") else {
        return usage("not a SQLite URL");
    };
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(after) => match after.strip_prefix("localhost/") {
            Some(_) => after.strip_prefix("localhost").unwrap_or(after),
            None if after.starts_with('/') => after,
            None => return usage("a SQLite database is a file and has no host"),
        },
    };
    if path == ":memory:" {
        return usage("a database in memory belongs to one program and cannot be read by another");
    }
    if path.contains(['?', '#']) {
        return usage(
            "options are not known here (a `?` in a file name is written %3F, a `#` %23)",
        );
    }
    match percent_decoded(path) {
        Some(path) if !path.is_empty() && !path.contains('\0') => Ok(PathBuf::from(path)),
        Some(_) => usage("no file named"),
        None => usage("a `%` in a file name is written %25"),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn relative_and_absolute() {
        assert_eq!(
            path_of("sqlite:data/shop.sqlite").unwrap(),
            PathBuf::from("data/shop.sqlite")
        );
        assert_eq!(
            path_of("sqlite:///srv/a%20b.db").unwrap(),
            PathBuf::from("/srv/a b.db")
        );
        assert_eq!(
            path_of("sqlite:/srv/a.db").unwrap(),
            PathBuf::from("/srv/a.db")
        );
        assert_eq!(
            path_of("sqlite://localhost/a.db").unwrap(),
            PathBuf::from("/a.db")
        );
    }

    #[test]
    fn a_password_is_not_repeated() {
        for url in [
            "postgres://ada:s3cret@db/shop",
            "sqlite://ada:s3cret@db/shop",
        ] {
            assert!(!path_of(url).unwrap_err().message.contains("s3cret"));
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (url, why) in [
            ("postgres://x", "not a SQLite URL"),
            ("sqlite://data/shop.sqlite", "has no host"),
            ("sqlite::memory:", "in memory"),
            ("sqlite:a?mode=rw", "options"),
            ("sqlite:100%.db", "%25"),
            ("sqlite:", "no file named"),
            ("sqlite:a%00b", "no file named"),
        ] {
            let error = path_of(url).unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::Usage);
            assert!(error.message.contains(why), "{}", error.message);
        }
    }
}
