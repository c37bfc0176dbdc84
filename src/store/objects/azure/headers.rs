//! What describes an object, by Azure's names for it and by ours, which are S3's.

use http::{HeaderMap, HeaderName};

use super::super::{ObjectError, ObjectErrorKind};

/// Metadata of a user's own, as S3 names it, and as Azure does.
const META: &str = "x-amz-meta-";
const AZURE_META: &str = "x-ms-meta-";

/// What is read under one name, and written under another.
const DESCRIBING: [(HeaderName, HeaderName); 5] = [
    (
        http::header::CACHE_CONTROL,
        HeaderName::from_static("x-ms-blob-cache-control"),
    ),
    (
        http::header::CONTENT_DISPOSITION,
        HeaderName::from_static("x-ms-blob-content-disposition"),
    ),
    (
        http::header::CONTENT_ENCODING,
        HeaderName::from_static("x-ms-blob-content-encoding"),
    ),
    (
        http::header::CONTENT_LANGUAGE,
        HeaderName::from_static("x-ms-blob-content-language"),
    ),
    (
        http::header::CONTENT_TYPE,
        HeaderName::from_static("x-ms-blob-content-type"),
    ),
];

/// Of all headers of an answer those that belong to the object.
pub(super) fn describing(headers: &HeaderMap) -> HeaderMap {
    let own = headers.iter().filter_map(|(name, value)| {
        let name = match name.as_str().strip_prefix(AZURE_META) {
            Some(own) => HeaderName::try_from(format!("{META}{own}")).ok()?,
            None => DESCRIBING
                .iter()
                .find_map(|(read, _)| (read == name).then(|| name.clone()))?,
        };
        Some((name, value.clone()))
    });
    own.collect()
}

/// What is said of an object when it is written.
///
/// # Errors
/// Metadata has a name that Azure does not allow: it would refuse the object.
pub(super) fn told(key: &str, attributes: &HeaderMap) -> Result<HeaderMap, ObjectError> {
    let mut headers = HeaderMap::new();
    for (name, value) in attributes {
        if let Some(own) = name.as_str().strip_prefix(META) {
            let name = match is_identifier(own) {
                true => HeaderName::try_from(format!("{AZURE_META}{own}")).ok(),
                false => None,
            };
            let name = name.ok_or_else(|| impossible(key, own))?;
            headers.insert(name, value.clone());
        } else if let Some((_, written)) = DESCRIBING.iter().find(|(read, _)| read == name) {
            headers.insert(written.clone(), value.clone());
        }
    }
    Ok(headers)
}

/// Names of metadata are identifiers of C# there.
fn is_identifier(name: &str) -> bool {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn impossible(key: &str, name: &str) -> ObjectError {
    let what = format!(
        "{key:?} has metadata of the name `{name}`, which Azure cannot keep: only letters, digits \
         and `_`; --no-metadata leaves it behind"
    );
    ObjectError::new(ObjectErrorKind::Impossible, key, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderValue;

    use super::*;

    fn headers(told: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        told.iter().map(header).collect()
    }

    #[test]
    fn what_is_told_comes_back() {
        let ours = headers(&[("content-type", "text/x"), ("x-amz-meta-owner", "me")]);
        let there = told("k", &ours).unwrap();
        let expected = [
            ("x-ms-blob-content-type", "text/x"),
            ("x-ms-meta-owner", "me"),
        ];
        assert_eq!(there, headers(&expected));
        let answer = headers(&[
            ("content-type", "text/x"),
            ("x-ms-meta-owner", "me"),
            ("x-ms-request-id", "7"),
        ]);
        assert_eq!(describing(&answer), ours);
    }

    #[test]
    fn names_that_azure_refuses_are_refused_by_name() {
        for name in ["x-amz-meta-my-name", "x-amz-meta-1st", "x-amz-meta-"] {
            let error = told("k", &headers(&[(name, "x")])).unwrap_err();
            assert_eq!(error.kind, ObjectErrorKind::Impossible);
            assert!(error.message.contains("--no-metadata"), "{error}");
        }
    }
}
