//! What differs between two places of objects, while both are being listed.
//!
//! The keys are cut into ranges that workers ask for. Of a range both listings
//! arrive page by page, ahead of their use, and are merged in the order of keys:
//! neither is ever in memory whole, and the first difference goes out while the
//! rest is still being listed. What is copied, and how, is not known here.
//!
//! | file | what it holds |
//! |---|---|
//! | `ranges` | the cuts, from the names of folders |
//! | `flat` | cuts where there are no folders, from the first characters that differ |
//! | `cursor` | a listing, one object at a time |
//! | `refusals` | what a listing has refused: it is there |
//! | `recorded` | the record of what was copied, in the order of keys |
//! | `decide` | has this object changed? |
//! | `filter` | which keys are wanted |
//! | `merge` | the comparison of one range |
//! | `batch` | differences as Arrow columns |
//! | `extras` | keys that only the target has |
//! | `operator` | [`compare_objects`] |
//! | `packed/` | small objects as rows of a table, and back |

mod batch;
mod cursor;
mod decide;
mod extras;
mod filter;
mod flat;
mod merge;
mod operator;
mod packed;
mod ranges;
mod recorded;
mod refusals;

pub(crate) use cursor::Cursor;
pub(crate) use packed::{is_same, listed, unreadable};

pub use batch::{changes_schema, listed_of};
pub use decide::Rules;
pub use extras::{ExtraKeys, Extras};
pub use filter::KeyFilter;
pub use operator::{CompareObjects, LISTED_BYTES, Recording, RequestsOf, compare_objects};
pub use packed::{PackPlan, PackRanges, PackedObjects, packed_schema};
pub use ranges::find_ranges;
pub use recorded::{MergedRecord, Record, RecordClock, recorded_schema};
