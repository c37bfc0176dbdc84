//! What a column becomes in the lake, and which of its values that refuses.
//!
//! A declared type gives a column an affinity, and affinity is a preference: any
//! value of any storage class may still be there. So a rule is two things, an
//! Arrow type for the column and an exact conversion for each value (in
//! [`super::columns`]); a value that has none is quarantined with its row.

use arrow::datatypes::{DataType, TimeUnit};
use highwater::dataset::{Column, Fidelity};

/// The `source_type` of a column that declares no type.
pub(super) const ANY: &str = "any";

/// How the values of one column are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Integers.
    Long,
    /// Doubles, and integers that a double holds exactly.
    Double,
    /// Text; integers and reals in their exact text form.
    Text,
    /// The SQL literal of each value, so that its storage class is kept too.
    Literal,
    /// Blobs.
    Binary,
    /// The integers 0 and 1.
    Boolean,
    /// ISO-8601 text.
    Date,
    /// ISO-8601 text without a zone.
    Timestamp,
    /// ISO-8601 text with a zone.
    Instant,
    /// Decimal numbers of no more digits than these.
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
}

/// Names that a user may write, the first of each kind as the documentation has it.
const NAMES: [(&str, Rule); 15] = [
    ("integer", Rule::Long),
    ("bigint", Rule::Long),
    ("long", Rule::Long),
    ("double", Rule::Double),
    ("real", Rule::Double),
    ("float", Rule::Double),
    ("text", Rule::Text),
    ("string", Rule::Text),
    ("binary", Rule::Binary),
    ("blob", Rule::Binary),
    ("boolean", Rule::Boolean),
    ("date", Rule::Date),
    ("timestamp", Rule::Timestamp),
    ("timestamptz", Rule::Instant),
    ("literal", Rule::Literal),
];

impl Rule {
    /// The rule of a type that the user named: `decimal(12,2)`, `timestamp`.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        if let Some((_, rule)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(*rule);
        }
        let digits = name.strip_prefix("decimal")?.trim();
        let (precision, scale) = digits
            .strip_prefix('(')?
            .strip_suffix(')')?
            .split_once(',')?;
        let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
        let fits = (1..=38).contains(&precision) && (0..=38).contains(&scale);
        (fits && i16::from(scale) <= i16::from(precision))
            .then_some(Self::Decimal { precision, scale })
    }

    /// What a user may write, for messages and to find the nearest.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name).chain(["decimal(p,s)"])
    }

    /// The rule that `column` was discovered with.
    pub(super) fn of(column: &Column) -> Option<Self> {
        Some(match &column.lake_type {
            DataType::Int64 => Self::Long,
            DataType::Float64 => Self::Double,
            // Only literals keep *every* value of an untyped column as text;
            // that is what tells them from the plain text a user asked for.
            DataType::Utf8 if matches!(&column.fidelity, Fidelity::Text(_)) => Self::Literal,
            DataType::Utf8 => Self::Text,
            DataType::Binary => Self::Binary,
            DataType::Boolean => Self::Boolean,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::Instant,
            DataType::Decimal128(precision, scale) => Self::Decimal {
                precision: *precision,
                scale: *scale,
            },
            _ => return None,
        })
    }

    /// The Arrow type of the lake column.
    pub(super) fn lake_type(self) -> DataType {
        match self {
            Self::Long => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Text | Self::Literal => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Boolean => DataType::Boolean,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
        }
    }

    /// What is kept of a column for which the user named this rule.
    pub(super) fn fidelity(self) -> Fidelity {
        let because = match self {
            Self::Literal => return literal(),
            Self::Long => "values that are not whole numbers of 64 bits",
            Self::Double => "values that are not exactly a double",
            Self::Text => {
                "blobs, and text that is not UTF-8. Numbers become their exact text (an integer \
                 1 and a text '1' become equal)"
            }
            Self::Binary => "values that are not blobs",
            Self::Boolean => "values other than 0 and 1",
            Self::Date => "values that are not text YYYY-MM-DD",
            Self::Timestamp => "values that are not ISO-8601 text without zone, to the microsecond",
            Self::Instant => {
                "values that are not ISO-8601 text with zone, to the microsecond; \
                 the instant is kept, not the zone"
            }
            Self::Decimal { .. } => "numbers with more digits, and what is no number",
        };
        Fidelity::Partial(because.to_owned())
    }
}

fn literal() -> Fidelity {
    Fidelity::Text(
        "the column declares no type, so each value is kept as its SQL literal (1, 1.5, 'text', \
         x'00'); name a type, for instance `text`, to keep it plain"
            .to_owned(),
    )
}

/// What the declaration of a column promises about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'a> {
    /// The type as declared; may be empty.
    pub(super) name: &'a str,
    /// Whether the table is STRICT: then storage classes are enforced.
    pub(super) strict: bool,
    /// Whether the column *is* the rowid: then it holds integers only.
    pub(super) rowid: bool,
}

impl Declared<'_> {
    /// The rule that loses nothing, and what it keeps.
    pub(super) fn rule(self) -> (Rule, Fidelity) {
        let partial = |because: &str| Fidelity::Partial(because.to_owned());
        let enforced = |because: &str| {
            if self.strict {
                Fidelity::Exact
            } else {
                partial(because)
            }
        };
        if self.rowid {
            return (Rule::Long, Fidelity::Exact);
        }
        match affinity(self.name) {
            Affinity::Any => (Rule::Literal, literal()),
            Affinity::Integer => (Rule::Long, enforced("values that are not integers")),
            Affinity::Real => (Rule::Double, enforced("values that are not numbers")),
            Affinity::Blob => (Rule::Binary, enforced("values that are not blobs")),
            Affinity::Text if self.strict => (Rule::Text, partial("text that is not UTF-8")),
            Affinity::Text => (Rule::Text, partial("blobs, and text that is not UTF-8")),
            Affinity::Boolean => (Rule::Boolean, partial("values other than 0 and 1")),
            Affinity::Moment => (
                Rule::Text,
                partial(
                    "blobs, and text that is not UTF-8. The rest is text, because SQLite has no \
                     dates (it may be text, Unix seconds or Julian days); name `timestamp`, \
                     `timestamptz` or `date` to have it typed",
                ),
            ),
            Affinity::Numeric => (
                Rule::Text,
                partial(
                    "blobs, and text that is not UTF-8. The rest is exact text, because values may \
                     be integers, reals or text; name `decimal(p,s)`, `integer` or `double` to \
                     have them typed",
                ),
            ),
        }
    }
}

/// SQLite's affinities, and the three declarations that say more than theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affinity {
    Any,
    Integer,
    Real,
    Text,
    Blob,
    Numeric,
    /// NUMERIC, declared as a boolean.
    Boolean,
    /// NUMERIC, declared as a date or a time.
    Moment,
}

/// The affinity of a declared type, by SQLite's own rules in their own order
/// (<https://sqlite.org/datatype3.html#determination_of_column_affinity>).
fn affinity(declared: &str) -> Affinity {
    let declared = declared.trim().to_ascii_uppercase();
    let has = |part: &str| declared.contains(part);
    let word = declared
        .split(|c: char| !c.is_ascii_alphabetic())
        .next()
        .unwrap_or_default();
    if declared.is_empty() || declared == "ANY" {
        Affinity::Any
    } else if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") {
        Affinity::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else if matches!(word, "BOOL" | "BOOLEAN") {
        Affinity::Boolean
    } else if matches!(
        word,
        "DATE" | "DATETIME" | "TIME" | "TIMESTAMP" | "TIMESTAMPTZ"
    ) {
        Affinity::Moment
    } else {
        Affinity::Numeric
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn affinities_as_sqlite_finds_them() {
        for (declared, expected) in [
            ("", Affinity::Any),
            ("ANY", Affinity::Any),
            ("BIGINT", Affinity::Integer),
            ("FLOATING POINT", Affinity::Integer),
            ("VARCHAR(20)", Affinity::Text),
            ("NVARCHAR", Affinity::Text),
            ("CLOB", Affinity::Text),
            ("BLOB", Affinity::Blob),
            ("double precision", Affinity::Real),
            ("FLOAT", Affinity::Real),
            ("STRING", Affinity::Numeric),
            ("DECIMAL(10,5)", Affinity::Numeric),
            ("BOOLEAN", Affinity::Boolean),
            ("timestamp with time zone", Affinity::Moment),
            ("DATETIME(6)", Affinity::Moment),
            ("DATETEXT", Affinity::Text),
        ] {
            assert_eq!(affinity(declared), expected, "{declared}");
        }
    }

    #[test]
    fn every_rule_is_found_again_from_its_column() {
        let names = Rule::names().filter(|name| *name != "decimal(p,s)");
        for name in names.chain(["decimal(12,2)", " DECIMAL( 38 , 0 )"]) {
            let rule = Rule::named(name).unwrap();
            let column = Column {
                name: "c".to_owned(),
                source_type: ANY.to_owned(),
                lake_type: rule.lake_type(),
                nullable: true,
                fidelity: rule.fidelity(),
            };
            assert_eq!(Rule::of(&column), Some(rule), "{name}");
        }
        for name in [
            "decimal",
            "decimal(0,0)",
            "decimal(39,1)",
            "decimal(4,5)",
            "decimal(4,-1)",
            "varchar",
        ] {
            assert_eq!(Rule::named(name), None, "{name}");
        }
    }

    #[test]
    fn declared_rules_are_found_again_too() {
        for name in [
            "", "ANY", "INT", "TEXT", "BLOB", "REAL", "BOOL", "DATE", "NUMERIC",
        ] {
            for (strict, rowid) in [(false, false), (true, false), (false, true)] {
                let (rule, fidelity) = Declared {
                    name,
                    strict,
                    rowid,
                }
                .rule();
                let column = Column {
                    name: "c".to_owned(),
                    source_type: name.to_owned(),
                    lake_type: rule.lake_type(),
                    nullable: true,
                    fidelity,
                };
                assert_eq!(Rule::of(&column), Some(rule), "{name}");
            }
        }
    }
}
