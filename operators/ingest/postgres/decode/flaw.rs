//! What can be wrong with one field of one row.

/// Why a field did not become a value of its column.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Flaw {
    /// The value does not exist in the lake's type: the row is set aside.
    Value {
        /// The value, as text.
        value: String,
        /// Why the lake's type cannot hold it.
        reason: String,
    },
    /// The bytes are not what the column's type sends: the read cannot go on.
    Wire(String),
}

/// Boxed, so that the good path returns one machine word.
pub(in super::super) type Decoded<T> = Result<T, Box<Flaw>>;

impl Flaw {
    /// A value that the lake's type cannot hold.
    #[cold]
    pub(super) fn value(value: impl Into<String>, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self::Value {
            value: value.into(),
            reason: reason.into(),
        })
    }

    /// Bytes that are not of the expected type.
    #[cold]
    pub(super) fn wire(what: impl Into<String>) -> Box<Self> {
        Box::new(Self::Wire(what.into()))
    }

    /// A field of the wrong length.
    #[cold]
    pub(super) fn length(expected: usize, found: usize) -> Box<Self> {
        Self::wire(format!(
            "a field of {expected} bytes was expected, the server sent {found}"
        ))
    }
}
