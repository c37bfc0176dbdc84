//! How the columns of a table have changed since its last commit.

use std::fmt;

use arrow::datatypes::{Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::SOURCE_TYPE;
use crate::ledger::Head;
use crate::run::prepare::TableShape;

/// Key of the column metadata that marks a column which the source has no more;
/// it is kept, and NULL in every row.
pub const DROPPED: &str = "highwater.dropped";

/// One change of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum ColumnChange {
    /// It is new.
    Added {
        /// The column.
        column: String,
        /// Its type in the lake.
        is: String,
    },
    /// The source has it no more (or under another name).
    Dropped {
        /// The column.
        column: String,
    },
    /// Its type in the lake is another one.
    Retyped {
        /// The column.
        column: String,
        /// The type it had.
        was: String,
        /// The type it has.
        is: String,
    },
    /// Its type in the source is another one, of the same type in the lake.
    SourceRetyped {
        /// The column.
        column: String,
        /// The type it had.
        was: String,
        /// The type it has.
        is: String,
    },
}

impl fmt::Display for ColumnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { column, is } => write!(f, "{column} is new ({is})"),
            Self::Dropped { column } => write!(f, "{column} is gone"),
            Self::Retyped { column, was, is } => write!(f, "{column} was {was} and is {is}"),
            Self::SourceRetyped { column, was, is } => {
                write!(f, "{column} was {was} in the source and is {is}")
            }
        }
    }
}

/// All that differs between a table's last commit and its shape now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Changes of columns, in the order of the columns.
    pub changes: Vec<ColumnChange>,
    /// Whether it is partitioned by other columns.
    pub partitions_changed: bool,
}

impl Difference {
    /// What is different in `shape` from `head`.
    #[must_use]
    pub fn between(head: &Head, shape: &TableShape) -> Self {
        let mut changes = Vec::new();
        for field in shape.schema.fields() {
            let was = head.schema.field_with_name(field.name());
            changes.extend(change(was.ok().filter(|was| !is_dropped(was)), field));
        }
        let gone = head.schema.fields().iter().filter(|field| {
            !is_dropped(field) && shape.schema.field_with_name(field.name()).is_err()
        });
        changes.extend(gone.map(|field| ColumnChange::Dropped {
            column: field.name().clone(),
        }));
        Self {
            changes,
            partitions_changed: head.partition_columns != shape.partition_columns,
        }
    }

    /// Whether the files that are there can stay.
    #[must_use]
    pub fn only_adds(&self) -> bool {
        !self.partitions_changed
            && self.changes.iter().all(|change| {
                matches!(
                    change,
                    ColumnChange::Added { .. } | ColumnChange::SourceRetyped { .. }
                )
            })
    }

    /// Keeps columns of `head` that the source has no more, marked as such.
    pub fn keep_dropped(&self, head: &Head, shape: &mut TableShape) {
        let mut fields: Vec<Field> = shape
            .schema
            .fields()
            .iter()
            .map(|f| (**f).clone())
            .collect();
        for field in head.schema.fields() {
            let partition = head.partition_columns.contains(field.name());
            if shape.schema.field_with_name(field.name()).is_err() && !partition {
                let mut metadata = field.metadata().clone();
                metadata.insert(DROPPED.to_owned(), "true".to_owned());
                fields.push((**field).clone().with_metadata(metadata));
            }
        }
        let schema: SchemaRef = Schema::new(fields).into();
        shape.schema = schema;
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        if self.partitions_changed {
            words.push("it is partitioned otherwise".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}

fn is_dropped(field: &Field) -> bool {
    field.metadata().contains_key(DROPPED)
}

fn change(was: Option<&Field>, is: &Field) -> Option<ColumnChange> {
    let column = is.name().clone();
    let Some(was) = was else {
        return Some(ColumnChange::Added {
            column,
            is: is.data_type().to_string(),
        });
    };
    let source_type = |field: &Field| field.metadata().get(SOURCE_TYPE).cloned();
    if was.data_type() != is.data_type() {
        return Some(ColumnChange::Retyped {
            column,
            was: was.data_type().to_string(),
            is: is.data_type().to_string(),
        });
    }
    (source_type(was) != source_type(is)).then(|| ColumnChange::SourceRetyped {
        column,
        was: source_type(was).unwrap_or_default(),
        is: source_type(is).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::datatypes::DataType;
    use uuid::Uuid;

    use super::*;
    use crate::watermark::{Bound, Identity, Mode, Watermark};

    fn field(name: &str, lake: DataType, source: &str) -> Field {
        Field::new(name, lake, true).with_metadata([(SOURCE_TYPE.to_owned(), source.to_owned())])
    }

    fn shape(fields: Vec<Field>) -> TableShape {
        TableShape {
            schema: Arc::new(Schema::new(fields)),
            partition_columns: Vec::new(),
        }
    }

    fn head(fields: Vec<Field>) -> Head {
        let source = Identity {
            kind: "test".to_owned(),
            id: String::new(),
            history: String::new(),
        };
        let bound = Bound {
            position: String::new(),
            at: String::new(),
        };
        Head {
            version: 0,
            changed_by_others: false,
            commit: 1,
            watermark: Watermark::new(source, Mode::Mirror, bound),
            schema: Arc::new(Schema::new(fields)),
            partition_columns: Vec::new(),
            rows: 0,
            files: 0,
            bytes: 0,
            run: Uuid::nil(),
            at: String::new(),
        }
    }

    #[test]
    fn every_change_is_told_and_only_additions_leave_the_files_alone() {
        use DataType::{Int32, Int64, Utf8};
        let was = || vec![field("a", Int32, "integer"), field("b", Utf8, "varchar(3)")];
        for (is, told, only_adds) in [
            (
                vec![field("b", Utf8, "varchar(3)"), field("a", Int32, "integer")],
                "",
                true,
            ),
            (
                vec![
                    field("a", Int32, "integer"),
                    field("b", Utf8, "varchar(9)"),
                    field("c", Int64, "bigint"),
                ],
                "b was varchar(3) in the source and is varchar(9), c is new (Int64)",
                true,
            ),
            (
                vec![field("a", Int64, "bigint"), field("b", Utf8, "varchar(3)")],
                "a was Int32 and is Int64",
                false,
            ),
            (
                vec![
                    field("a", Int32, "integer"),
                    field("b2", Utf8, "varchar(3)"),
                ],
                "b2 is new (Utf8), b is gone",
                false,
            ),
        ] {
            let difference = Difference::between(&head(was()), &shape(is));
            assert_eq!(difference.to_string(), told);
            assert_eq!(difference.only_adds(), only_adds, "{told}");
        }
    }

    #[test]
    fn a_dropped_column_is_kept_once_and_may_come_back() {
        let a = || field("a", DataType::Int32, "integer");
        let b = || field("b", DataType::Utf8, "text");
        let mut without = shape(vec![a()]);
        let difference = Difference::between(&head(vec![a(), b()]), &without);
        assert!(!difference.only_adds());
        difference.keep_dropped(&head(vec![a(), b()]), &mut without);
        let kept: Vec<Field> = without
            .schema
            .fields()
            .iter()
            .map(|f| (**f).clone())
            .collect();
        assert_eq!(kept.len(), 2);
        // The next run sees nothing new, and keeps it again.
        let mut again = shape(vec![a()]);
        let difference = Difference::between(&head(kept.clone()), &again);
        assert_eq!(difference, Difference::default());
        difference.keep_dropped(&head(kept.clone()), &mut again);
        assert_eq!(again.schema, without.schema);
        let back = Difference::between(&head(kept), &shape(vec![a(), b()]));
        assert_eq!(back.to_string(), "b is new (Utf8)");
    }
}
