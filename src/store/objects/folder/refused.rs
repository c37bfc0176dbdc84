//! What a folder has that cannot be listed as an object.

use std::io;

use super::super::Refused;

/// What the reason says where nothing is known but the name.
const UNREADABLE: &str = "it is there and cannot be read";

impl Refused {
    /// Something of which nothing is known but its name. That of a folder ends with `/`
    /// and stands for all that is below it.
    pub(super) fn unreadable(key: String, error: &io::Error) -> Self {
        let reason = format!("{UNREADABLE}: {error}");
        Self { key, reason }
    }

    /// What another range of keys tells of. This one has to know it: it may have keys
    /// that lie below it.
    pub(super) fn told_elsewhere(key: String) -> Self {
        let reason = String::new();
        Self { key, reason }
    }

    /// Whether nothing is known of it but its name.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.reason.contains(UNREADABLE)
    }

    /// Whether another range of keys tells of it, so that it is not counted twice.
    #[must_use]
    pub fn is_told_elsewhere(&self) -> bool {
        self.reason.is_empty()
    }
}
