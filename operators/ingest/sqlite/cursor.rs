//! Cursor values as text that keeps their storage class.
//!
//! SQLite orders values by storage class first (numbers, text, blobs), so a
//! watermark has to say which it is: `i:42`, `r:1.5`, `t:2024-01-01`, `b:00ff`.

use highwater::source::{SourceError, SourceErrorKind};
use rusqlite::types::{Value, ValueRef};

use super::literal;

/// The text of `value`; `None` for NULL and for text that is not UTF-8, which no
/// cursor can stand on.
pub(super) fn written(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(value) => Some(format!("i:{value}")),
        ValueRef::Real(value) => Some(format!("r:{value:?}")),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes)
            .ok()
            .map(|text| format!("t:{text}")),
        ValueRef::Blob(bytes) => Some(format!("b:{}", literal::hexadecimal(bytes))),
    }
}

/// The value that `text` was written from.
pub(super) fn read(text: &str) -> Result<Value, SourceError> {
    let value = match text.split_once(':') {
        Some(("i", value)) => value.parse().ok().map(Value::Integer),
        Some(("r", value)) => value.parse().ok().map(Value::Real),
        Some(("t", value)) => Some(Value::Text(value.to_owned())),
        Some(("b", value)) => bytes(value).map(Value::Blob),
        _ => None,
    };
    value.ok_or_else(|| {
        SourceError::new(
            SourceErrorKind::Failed,
            format!(
                "the watermark `{text}` is not a SQLite cursor: was another source read before?"
            ),
        )
    })
}

/// The bytes of an even number of hexadecimal digits.
pub(super) fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digits = hexadecimal.as_bytes();
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => {
            let high = char::from(*high).to_digit(16)?;
            let low = char::from(*low).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        }
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            any::<f64>()
                .prop_filter("NaN is NULL", |v| !v.is_nan())
                .prop_map(Value::Real),
            ".*".prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Blob),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in any_value()) {
            let text = written(ValueRef::from(&value)).unwrap();
            prop_assert_eq!(read(&text).unwrap(), value);
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "42", "i:x", "b:0", "b:zz", "q:1"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(written(ValueRef::Null), None);
        assert_eq!(written(ValueRef::Text(&[0xff])), None);
    }
}
