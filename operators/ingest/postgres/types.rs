//! What each PostgreSQL type becomes in the lake, and what of it is not exact.
//! `docs/types.md` holds the same table for readers.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use highwater::dataset::Fidelity;

/// Digits of the lake's widest decimal.
const DECIMAL_DIGITS: i32 = 38;
/// A modifier that is absent.
const NO_MODIFIER: i32 = -1;
/// `VARHDRSZ`, which PostgreSQL adds to the modifier of `numeric`.
const MODIFIER_OFFSET: i32 = 4;

/// A row of `pg_type`, as far as it decides.
#[derive(Debug, Clone)]
pub(super) struct PgType {
    /// The schema.
    pub(super) schema: String,
    /// The name.
    pub(super) name: String,
    /// `typtype`: `b`ase, `c`omposite, `d`omain, `e`num, `r`ange, `m`ultirange.
    pub(super) kind: char,
    /// The element's type, for arrays proper.
    pub(super) element: Option<u32>,
    /// The type below, for domains.
    pub(super) base: u32,
    /// The modifier that a domain gives to the type below.
    pub(super) modifier: i32,
}

/// The types that a database's columns use, by object identifier.
pub(super) type PgTypes = HashMap<u32, PgType>;

/// What a column becomes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mapping {
    /// The lake type.
    pub(super) lake_type: DataType,
    /// What it keeps.
    pub(super) fidelity: Fidelity,
}

impl Mapping {
    fn exact(lake_type: DataType) -> Self {
        Self {
            lake_type,
            fidelity: Fidelity::Exact,
        }
    }

    fn partial(lake_type: DataType, missing: &str) -> Self {
        Self {
            lake_type,
            fidelity: Fidelity::Partial(missing.to_owned()),
        }
    }

    fn text(because: impl Into<String>) -> Self {
        Self {
            lake_type: DataType::Utf8,
            fidelity: Fidelity::Text(because.into()),
        }
    }
}

/// The type below all domains, and its modifier.
fn resolve(types: &PgTypes, mut oid: u32, mut modifier: i32) -> Option<(&PgType, i32)> {
    // Domains over domains; the depth bounds a damaged catalog.
    for _ in 0..32 {
        let found = types.get(&oid)?;
        if found.kind != 'd' {
            return Some((found, modifier));
        }
        if modifier == NO_MODIFIER {
            modifier = found.modifier;
        }
        oid = found.base;
    }
    None
}

/// What a column of type `oid` becomes, by default.
pub(super) fn map(types: &PgTypes, oid: u32, modifier: i32) -> Mapping {
    let Some((found, modifier)) = resolve(types, oid, modifier) else {
        return Mapping::text("its type is not known");
    };
    let is_domain = types.get(&oid).is_some_and(|outer| outer.kind == 'd');
    match (found.element, found.kind) {
        (Some(element), _) => list(&map(types, element, modifier)),
        (None, 'b') if found.schema == "pg_catalog" => match found.name.as_str() {
            "bpchar" if is_domain => {
                Mapping::text("a domain over char(n): padding blanks are not kept")
            }
            name => scalar(name, modifier),
        },
        (None, 'c') => Mapping::text("a composite type"),
        (None, 'e') => Mapping::text("an enumeration"),
        (None, 'r' | 'm') => Mapping::text("a range type"),
        (None, _) => Mapping::text(format!("the lake has no {}", found.name)),
    }
}

/// A list of what its elements become.
fn list(item: &Mapping) -> Mapping {
    let field = Arc::new(Field::new("element", item.lake_type.clone(), true));
    let shape = "arrays of more than one dimension or not beginning at index 1";
    Mapping::partial(
        DataType::List(field),
        &match &item.fidelity {
            Fidelity::Exact => shape.to_owned(),
            Fidelity::Text(because) => format!("{shape} (elements are text: {because})"),
            Fidelity::Partial(missing) => format!("{shape}; {missing}"),
        },
    )
}

fn scalar(name: &str, modifier: i32) -> Mapping {
    match name {
        "bool" => Mapping::exact(DataType::Boolean),
        "int2" => Mapping::exact(DataType::Int16),
        "int4" => Mapping::exact(DataType::Int32),
        "int8" | "oid" => Mapping::exact(DataType::Int64),
        "float4" => Mapping::exact(DataType::Float32),
        "float8" => Mapping::exact(DataType::Float64),
        "numeric" => numeric(modifier),
        "text" | "varchar" | "bpchar" | "name" => Mapping::exact(DataType::Utf8),
        "bytea" => Mapping::exact(DataType::Binary),
        "date" => Mapping::partial(DataType::Date32, "infinity, -infinity"),
        "timestamp" => timestamp(None),
        "timestamptz" => timestamp(Some("UTC".into())),
        "json" | "jsonb" => Mapping::text("the lake has no JSON type"),
        "money" => Mapping::text("its digits depend on the server's lc_monetary"),
        "xml" => Mapping::text("the lake has no XML type"),
        other => Mapping::text(format!("the lake has no {other}")),
    }
}

fn timestamp(zone: Option<Arc<str>>) -> Mapping {
    Mapping::partial(
        DataType::Timestamp(TimeUnit::Microsecond, zone),
        "infinity, -infinity, times after 294247-01-10",
    )
}

/// `numeric(p,s)` where a decimal of the lake holds every value but NaN.
fn numeric(modifier: i32) -> Mapping {
    let Some((precision, scale)) = precision_and_scale(modifier) else {
        return Mapping::text(
            "numeric without precision: name a type, such as \"decimal(38,9)\", to have a number",
        );
    };
    // A negative scale only ends in zeros; a scale above the precision only
    // begins with them.
    let (digits, places) = if scale < 0 {
        (precision - scale, 0)
    } else {
        (precision.max(scale), scale)
    };
    match (u8::try_from(digits), i8::try_from(places)) {
        (Ok(digits @ 1..), Ok(places)) if i32::from(digits) <= DECIMAL_DIGITS => {
            Mapping::partial(DataType::Decimal128(digits, places), "NaN")
        }
        _ => Mapping::text(format!(
            "numeric({precision},{scale}) needs more than {DECIMAL_DIGITS} digits"
        )),
    }
}

fn precision_and_scale(modifier: i32) -> Option<(i32, i32)> {
    if modifier < MODIFIER_OFFSET {
        return None;
    }
    let packed = modifier - MODIFIER_OFFSET;
    // The scale has 11 bits with sign since PostgreSQL 15; before, it was never
    // large enough to tell the difference.
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    Some(((packed >> 16) & 0xffff, scale))
}

/// What a column becomes by the user's choice. The error says why not.
pub(super) fn choose(
    types: &PgTypes,
    oid: u32,
    default: &Mapping,
    choice: &str,
) -> Result<Mapping, String> {
    let wanted = choice.trim().to_ascii_lowercase();
    if matches!(wanted.as_str(), "text" | "string") {
        return Ok(if default.lake_type == DataType::Utf8 {
            default.clone()
        } else {
            Mapping::text("chosen")
        });
    }
    let name = match resolve(types, oid, NO_MODIFIER) {
        Some((found, _)) if found.schema == "pg_catalog" && found.element.is_none() => {
            found.name.as_str()
        }
        _ => "",
    };
    let is_integer = matches!(name, "int2" | "int4" | "int8");
    let refuse = || {
        Err(format!(
            "{} cannot become {wanted}; it may become text",
            default_name(name)
        ))
    };
    if let Some(arguments) = wanted
        .strip_prefix("decimal")
        .or_else(|| wanted.strip_prefix("numeric"))
    {
        let (precision, scale) = decimal_arguments(arguments).ok_or_else(|| {
            format!(
                "\"{choice}\" is not a type: write decimal(p,s) with 1 <= p <= 38 and 0 <= s <= p"
            )
        })?;
        return match name {
            "numeric" => Ok(Mapping::partial(
                DataType::Decimal128(precision, scale),
                &format!(
                    "NaN, infinities, and numbers of more digits than decimal({precision},{scale}) has"
                ),
            )),
            _ if is_integer => Ok(Mapping::partial(
                DataType::Decimal128(precision, scale),
                &format!("numbers of more digits than decimal({precision},{scale}) has"),
            )),
            _ => refuse(),
        };
    }
    match (wanted.as_str(), name) {
        ("double", "numeric") => Ok(Mapping::partial(
            DataType::Float64,
            "digits beyond the 15th to 17th, by choice",
        )),
        ("double", "int8") => Ok(Mapping::partial(
            DataType::Float64,
            "digits beyond the 15th to 17th, by choice",
        )),
        ("double", "float4" | "float8" | "int2" | "int4") => Ok(Mapping::exact(DataType::Float64)),
        ("float", "float4" | "int2") => Ok(Mapping::exact(DataType::Float32)),
        ("float", "numeric" | "int4") => Ok(Mapping::partial(
            DataType::Float32,
            "digits beyond the 6th to 9th, by choice",
        )),
        ("double" | "float", _) => refuse(),
        _ => Err(format!(
            "\"{choice}\" is not a type that can be chosen: text, decimal(p,s), double or float"
        )),
    }
}

fn default_name(name: &str) -> &str {
    if name.is_empty() {
        "a value of this type"
    } else {
        name
    }
}

fn decimal_arguments(text: &str) -> Option<(u8, i8)> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    let (precision, scale) = inner.split_once(',').unwrap_or((inner, "0"));
    let (precision, scale): (u8, i8) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    let fits =
        (1..=38).contains(&precision) && scale >= 0 && i16::from(scale) <= i16::from(precision);
    fits.then_some((precision, scale))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn types() -> PgTypes {
        let base = |schema: &str, name: &str, kind, element, base, modifier| PgType {
            schema: schema.into(),
            name: name.into(),
            kind,
            element,
            base,
            modifier,
        };
        HashMap::from([
            (23, base("pg_catalog", "int4", 'b', None, 0, -1)),
            (25, base("pg_catalog", "text", 'b', None, 0, -1)),
            (1007, base("pg_catalog", "_int4", 'b', Some(23), 0, -1)),
            (1700, base("pg_catalog", "numeric", 'b', None, 0, -1)),
            (
                9000,
                base("public", "price", 'd', None, 1700, packed(10, 2)),
            ),
            (9001, base("public", "price2", 'd', None, 9000, -1)),
            (9002, base("public", "mood", 'e', None, 0, -1)),
            (9003, base("public", "hstore", 'b', None, 0, -1)),
        ])
    }

    fn packed(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn numerics_by_precision_and_scale() {
        for (precision, scale, wanted) in [
            (12, 2, DataType::Decimal128(12, 2)),
            (38, 38, DataType::Decimal128(38, 38)),
            (3, -2, DataType::Decimal128(5, 0)),
            (2, 5, DataType::Decimal128(5, 5)),
            (39, 0, DataType::Utf8),
            (1000, 10, DataType::Utf8),
            (30, -20, DataType::Utf8),
        ] {
            assert_eq!(
                map(&types(), 1700, packed(precision, scale)).lake_type,
                wanted,
                "({precision},{scale})"
            );
        }
        assert_eq!(map(&types(), 1700, -1).lake_type, DataType::Utf8);
    }

    #[test]
    fn domains_enums_arrays_and_strangers() {
        let types = types();
        assert_eq!(map(&types, 9001, -1).lake_type, DataType::Decimal128(10, 2));
        assert!(
            matches!(map(&types, 9002, -1).fidelity, Fidelity::Text(because) if because.contains("enum"))
        );
        assert!(
            matches!(map(&types, 9003, -1).fidelity, Fidelity::Text(because) if because.contains("hstore"))
        );
        assert_eq!(map(&types, 4242, -1).lake_type, DataType::Utf8);
        let DataType::List(item) = map(&types, 1007, -1).lake_type else {
            panic!()
        };
        assert_eq!(
            (item.name().as_str(), item.data_type()),
            ("element", &DataType::Int32)
        );
    }

    #[test]
    fn choices() {
        let types = types();
        let choose = |oid, choice: &str| {
            choose(&types, oid, &map(&types, oid, -1), choice).map(|chosen| chosen.lake_type)
        };
        assert_eq!(
            choose(1700, "decimal(20, 4)"),
            Ok(DataType::Decimal128(20, 4))
        );
        assert_eq!(choose(9001, "double"), Ok(DataType::Float64));
        assert_eq!(choose(23, "DECIMAL(10)"), Ok(DataType::Decimal128(10, 0)));
        assert_eq!(choose(1007, "text"), Ok(DataType::Utf8));
        assert!(choose(25, "decimal(10,2)").is_err_and(|why| why.contains("text cannot become")));
        for bad in [
            "decimal(39,0)",
            "decimal(5,6)",
            "decimal(5,-1)",
            "decimal",
            "blob",
            "decimal(a,b)",
        ] {
            assert!(choose(1700, bad).is_err(), "{bad}");
        }
    }
}
