//! SQL literals and identifiers.
//!
//! A value's literal says its storage class, so it is the exact text of a value
//! whose column promises no type: `1`, `1.5`, `'1'`, `x'31'`, `NULL`.

use rusqlite::types::ValueRef;

/// `name` as a quoted identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A double in its shortest form that reads back as the same double; always
/// with a point or an exponent, so never mistaken for an integer. Infinity is
/// what SQLite itself writes: a literal too large to be anything else.
pub(super) fn real(value: f64) -> String {
    if value == f64::INFINITY {
        "9.0e+999".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-9.0e+999".to_owned()
    } else {
        format!("{value:?}")
    }
}

/// The literal of `value`; `None` for text that is not UTF-8.
pub(super) fn exact(value: ValueRef<'_>) -> Option<String> {
    Some(match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => real(value),
        ValueRef::Text(bytes) => {
            format!("'{}'", std::str::from_utf8(bytes).ok()?.replace('\'', "''"))
        }
        ValueRef::Blob(bytes) => format!("x'{}'", hexadecimal(bytes)),
    })
}

/// Bytes as lower-case hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or('?');
    bytes
        .iter()
        .flat_map(|&byte| [digit(byte >> 4), digit(byte)])
        .collect()
}

/// The literal of `value` for people, cut after about `limit` bytes.
pub(super) fn shown(value: ValueRef<'_>, limit: usize) -> String {
    let mut text = match value {
        // Only as much as will be shown: a value may have a gigabyte.
        ValueRef::Text(bytes) => {
            let head = bytes.get(..limit).unwrap_or(bytes);
            match std::str::from_utf8(head) {
                Ok(text) => format!("'{}'", text.replace('\'', "''")),
                // Cut inside a character, or not UTF-8 at all.
                Err(error) if error.error_len().is_none() => {
                    let valid = head.get(..error.valid_up_to()).unwrap_or_default();
                    format!("'{}'", String::from_utf8_lossy(valid).replace('\'', "''"))
                }
                Err(_) => format!("CAST(x'{}' AS TEXT)", hexadecimal(head)),
            }
        }
        ValueRef::Blob(bytes) => format!("x'{}'", hexadecimal(bytes.get(..limit).unwrap_or(bytes))),
        other => exact(other).unwrap_or_default(),
    };
    if text.len() > limit {
        let cut = (0..=limit)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(cut);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(real(1.0), "1.0");
        assert_eq!(real(1e300), "1e300");
        assert_eq!(exact(ValueRef::Text(b"it's")).unwrap(), "'it''s'");
        assert_eq!(exact(ValueRef::Blob(&[0, 255])).unwrap(), "x'00ff'");
        assert_eq!(exact(ValueRef::Text(&[0xff])), None);
        assert_eq!(shown(ValueRef::Text(&[0xff]), 100), "CAST(x'ff' AS TEXT)");
        assert_eq!(shown(ValueRef::Text("ééé".as_bytes()), 5), "'éé");
    }

    proptest! {
        #[test]
        fn reals_read_back_as_themselves(value in any::<f64>().prop_filter("NaN is NULL", |v| !v.is_nan())) {
            let text = real(value);
            prop_assert!(text.contains(['.', 'e']));
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn shown_keeps_to_its_limit(text in ".*", limit in 4usize..40) {
            prop_assert!(shown(ValueRef::Text(text.as_bytes()), limit).len() <= limit);
        }
    }
}
