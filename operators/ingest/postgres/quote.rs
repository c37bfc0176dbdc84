//! Names and values as PostgreSQL's SQL spells them.

use highwater::dataset::TableName;

/// An identifier, always in double quotes.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant. The escape form is used where a backslash occurs, so that
/// the meaning does not depend on `standard_conforming_strings`.
pub(super) fn literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A table, with its schema where it has one.
pub(super) fn table(name: &TableName) -> String {
    match &name.schema {
        Some(schema) => format!("{}.{}", identifier(schema), identifier(&name.name)),
        None => identifier(&name.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_and_values_stay_whole() {
        assert_eq!(identifier("We\"ird Täble"), "\"We\"\"ird Täble\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b'c"), "E'a\\\\b''c'");
        let name = TableName {
            schema: Some("s.x".into()),
            name: "t".into(),
        };
        assert_eq!(table(&name), "\"s.x\".\"t\"");
    }
}
