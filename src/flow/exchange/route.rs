//! Which worker gets which rows.
