//! (to come)
#[test]
fn nothing() {}
