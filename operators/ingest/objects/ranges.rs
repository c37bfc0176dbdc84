//! The keys, cut into ranges that can be listed side by side.

use highwater::store::objects::{KeyRange, ObjectError, Objects};
use highwater::store::pace::Retries;

use super::flat::flat_cuts;

/// Folders that are looked into for finer cuts.
const MOST_LOOKS: usize = 32;

/// A look that shows so many names may not have shown all: a page has a thousand.
const FULL_LOOK: usize = 990;

/// Ranges of keys without folders; more would cost more to find than they spare.
const FLAT_RANGES: usize = 8;

/// Cuts the keys of `objects` into about `wanted` ranges, by the names of folders
/// at the first levels, and by the characters in which keys first differ where there
/// are many and no folders. The ranges hold every key, listed or not: cuts that are
/// out of date cost time and nothing else.
///
/// # Errors
/// The place cannot be listed.
pub async fn find_ranges(
    objects: &dyn Objects,
    retries: &Retries,
    wanted: usize,
) -> Result<Vec<KeyRange>, ObjectError> {
    let top = look(objects, retries, "").await?;
    let (mut cuts, mut flat) = (top.folders, Vec::from_iter(top.flat));
    let mut looked = 0;
    // Finer where few folders hold everything; each look is a request.
    while cuts.len() < wanted && looked < MOST_LOOKS.min(cuts.len()) {
        let Some(folder) = cuts.get(looked).cloned() else {
            break;
        };
        looked += 1;
        let below = look(objects, retries, &folder).await?;
        cuts.extend(below.folders);
        flat.extend(below.flat);
    }
    if cuts.len() < wanted && !flat.is_empty() && objects.begins_anywhere() {
        let first_after = |after: String| async move {
            retries.ask(|| objects.first_after(&after), |_| ()).await
        };
        let wanted = FLAT_RANGES * flat.len();
        cuts.extend(flat_cuts(flat, wanted, first_after).await?);
    }
    cuts.sort_unstable();
    cuts.dedup();
    Ok(KeyRange::cut(&thinned(cuts, wanted)))
}

/// What is directly below a prefix.
struct Look {
    folders: Vec<String>,
    /// The prefix, where there is much more than folders.
    flat: Option<String>,
}

async fn look(objects: &dyn Objects, retries: &Retries, prefix: &str) -> Result<Look, ObjectError> {
    let names = retries.ask(|| objects.names_below(prefix), |_| ()).await?;
    let seen = names.len();
    let folders: Vec<_> = names
        .into_iter()
        .filter(|name| name.ends_with('/'))
        .collect();
    let is_flat = seen >= FULL_LOOK && folders.len() < seen / 2;
    Ok(Look {
        folders,
        flat: is_flat.then(|| prefix.to_owned()),
    })
}

/// At most so many of the cuts, evenly.
fn thinned(cuts: Vec<String>, most: usize) -> Vec<String> {
    if cuts.len() <= most {
        return cuts;
    }
    let each = cuts.len().div_ceil(most.max(1));
    cuts.into_iter().step_by(each).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use highwater::store::objects::FolderObjects;
    use highwater::store::pace::RetryPolicy;

    use super::*;

    #[tokio::test]
    async fn folders_are_cuts() {
        let home = tempfile::tempdir().unwrap();
        for folder in ["a/x", "a/y", "b", "_highwater/objects"] {
            std::fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        std::fs::write(home.path().join("file"), "").unwrap();
        let objects = FolderObjects::new(home.path());
        let retries = Retries::new(RetryPolicy::default());
        let ranges = find_ranges(&objects, &retries, 10).await.unwrap();
        let upto: Vec<_> = ranges.iter().map(|range| range.upto.as_deref()).collect();
        assert_eq!(
            upto,
            [Some("a/"), Some("a/x/"), Some("a/y/"), Some("b/"), None]
        );
        let ranges = find_ranges(&objects, &retries, 2).await.unwrap();
        assert!(ranges.len() <= 3, "{ranges:?}");
    }
}
