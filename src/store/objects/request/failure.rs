//! What an answer that is no success means, whoever gives it: the services name
//! their errors by codes in XML, or in a header where there is no body.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};

use super::super::{ObjectError, ObjectErrorKind};

/// Where Azure names an error.
const CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// The text of a header.
pub(in super::super) fn header_text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The text of the first element of this name.
pub(in super::super) fn element(xml: &str, name: &str) -> Option<String> {
    let begin = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let rest = xml.get(begin..)?;
    let inside = rest.get(..rest.find(&format!("</{name}>"))?)?;
    quick_xml::escape::unescape(inside)
        .ok()
        .map(|text| text.into_owned())
}

/// What an answer that is no success means.
pub(in super::super) fn failure(
    status: StatusCode,
    headers: &HeaderMap,
    text: &str,
    key: &str,
    doing: &str,
) -> ObjectError {
    let code = element(text, "Code").or_else(|| header_text(headers, &CODE));
    let code = code.unwrap_or_default();
    let message = element(text, "Message").unwrap_or_default();
    let kind = match (status.as_u16(), code.as_str()) {
        (_, "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted") => {
            ObjectErrorKind::NoSuchPlace
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken") => {
            ObjectErrorKind::Refused
        }
        (_, "SlowDown" | "TooManyRequests" | "RequestLimitExceeded") => ObjectErrorKind::Busy,
        (_, "RequestTimeout" | "BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch") => {
            ObjectErrorKind::Broken
        }
        (_, "Md5Mismatch" | "OperationTimedOut") => ObjectErrorKind::Broken,
        (_, "KeyTooLongError" | "EntityTooLarge" | "InvalidURI") => ObjectErrorKind::Impossible,
        (_, "InvalidUri" | "OutOfRangeInput" | "InvalidResourceName" | "RequestBodyTooLarge") => {
            ObjectErrorKind::Impossible
        }
        // Blocks that were lost: the object is begun anew.
        (_, "InvalidBlockList") => ObjectErrorKind::Vanished,
        (_, "BlobArchived" | "SnapshotsPresent") => ObjectErrorKind::Failed,
        (404, _) => ObjectErrorKind::Vanished,
        (412 | 409, _) => ObjectErrorKind::Changed,
        (401 | 403, _) => ObjectErrorKind::Refused,
        (429 | 503, _) => ObjectErrorKind::Busy,
        (408, _) => ObjectErrorKind::Slow,
        (500..=599, _) => ObjectErrorKind::Broken,
        _ => ObjectErrorKind::Failed,
    };
    let said = match (code.is_empty(), message.is_empty()) {
        (true, _) => status.to_string(),
        (false, true) => code.clone(),
        (false, false) => format!("{code}: {message}"),
    };
    let said = match advice(kind, &code) {
        Some(advice) => format!("{advice} ({said})"),
        None => said,
    };
    let mut error = ObjectError::new(kind, key, format!("cannot {doing}: {said}"));
    let after = header_text(headers, &http::header::RETRY_AFTER);
    let after = after.and_then(|after| after.parse().ok());
    error.retry_after = after.map(|seconds: u64| Duration::from_secs(seconds.min(300)));
    error
}

/// What is to be done about an answer that does not pass by itself.
fn advice(kind: ObjectErrorKind, code: &str) -> Option<&'static str> {
    Some(match (code, kind) {
        ("NoSuchBucket", _) => "the bucket does not exist; create it or correct the URL",
        ("ContainerNotFound", _) => "the container does not exist; create it or correct the URL",
        ("AuthenticationFailed", _) => "the account's key or token is wrong or expired",
        ("BlobArchived", _) => "it is archived; bring it back to a tier that can be read",
        ("InvalidBlobOrBlock", _) => {
            "another program has begun to write it in blocks of other names, and not ended; they \
             are forgotten after a week"
        }
        ("InvalidAccessKeyId", _) => "the store does not know this access key",
        ("SignatureDoesNotMatch", _) => "the secret key is not the one of this access key",
        ("ExpiredToken" | "InvalidToken", _) => {
            "the session token is no longer good; get a new one"
        }
        ("ContainerBeingDeleted", _) => "it is being deleted",
        (_, ObjectErrorKind::Refused) => "these credentials may not do that; give them permission",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: StatusCode, body: &str) -> ObjectError {
        failure(status, &HeaderMap::new(), body, "k", "read k")
    }

    #[test]
    fn answers_say_what_to_do_next() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", http::HeaderValue::from_static("7"));
        let busy = failure(StatusCode::SERVICE_UNAVAILABLE, &headers, "", "k", "read k");
        assert_eq!(busy.kind, ObjectErrorKind::Busy);
        assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
        for code in ["NoSuchBucket", "ContainerNotFound"] {
            let body = format!("<Error><Code>{code}</Code><Message>gone</Message></Error>");
            let gone = of(StatusCode::NOT_FOUND, &body);
            assert_eq!(gone.kind, ObjectErrorKind::NoSuchPlace);
            assert!(gone.message.contains("does not exist"), "{gone}");
        }
    }

    #[test]
    fn an_answer_without_a_body_names_its_code_in_a_header() {
        let mut headers = HeaderMap::new();
        headers.insert(CODE, http::HeaderValue::from_static("ContainerNotFound"));
        let gone = failure(StatusCode::NOT_FOUND, &headers, "", "k", "look at k");
        assert_eq!(gone.kind, ObjectErrorKind::NoSuchPlace);
        assert_eq!(
            of(StatusCode::NOT_FOUND, "").kind,
            ObjectErrorKind::Vanished
        );
    }

    #[test]
    fn what_azure_calls_a_conflict_is_not_always_a_change() {
        let body = |code| format!("<Error><Code>{code}</Code></Error>");
        let archived = of(StatusCode::CONFLICT, &body("BlobArchived"));
        assert_eq!(archived.kind, ObjectErrorKind::Failed);
        let lost = of(StatusCode::BAD_REQUEST, &body("InvalidBlockList"));
        assert_eq!(lost.kind, ObjectErrorKind::Vanished);
        let turned = of(StatusCode::BAD_REQUEST, &body("Md5Mismatch"));
        assert!(turned.passes());
        let changed = of(StatusCode::PRECONDITION_FAILED, &body("ConditionNotMet"));
        assert_eq!(changed.kind, ObjectErrorKind::Changed);
    }
}
