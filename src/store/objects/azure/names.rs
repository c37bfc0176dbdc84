//! Keys that Azure cannot hold under these very names.

/// The longest key that Azure has, in characters.
const LONGEST_KEY_CHARS: usize = 1024;

/// The most parts that a key may have.
const MOST_SEGMENTS: usize = 254;

/// Why Azure cannot hold a key under this very name, if it cannot. Source: "Naming
/// and referencing containers, blobs, and metadata".
pub(super) fn problem_with(full: &str) -> Option<&'static str> {
    if full.chars().count() > LONGEST_KEY_CHARS {
        return Some("its key would be longer than the 1,024 characters that Azure allows");
    }
    if full.contains('\\') {
        return Some("its key has a `\\`, of which Azure makes a `/`");
    }
    if full.chars().any(char::is_control) || full.contains(['\u{fffe}', '\u{ffff}']) {
        return Some("its key has a control character, which Azure does not allow");
    }
    if full.split('/').count() > MOST_SEGMENTS {
        return Some("its key has more than the 254 parts that Azure allows");
    }
    let dot = full.split('/').any(|part| part.ends_with('.'));
    dot.then_some("a part of its key ends with `.`, which Azure leaves out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_azure_would_clean_is_refused() {
        for key in [
            "a\\b", "a.", "a./b", "a\tb", "a\u{81}", "x\n", "...", "\u{ffff}",
        ] {
            assert!(problem_with(key).is_some(), "{key:?}");
        }
        for key in [
            "a b",
            "a//b",
            "/a",
            "a/",
            "a.b",
            ".a",
            "ü",
            "\u{1f600}",
            "%2F",
            "+#?&",
        ] {
            assert_eq!(problem_with(key), None, "{key:?}");
        }
        assert!(problem_with(&"x".repeat(1025)).is_some());
        assert!(problem_with(&"ü".repeat(1024)).is_none());
        assert!(problem_with(&"a/".repeat(254)).is_some());
    }
}
