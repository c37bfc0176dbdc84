//! The keys, cut into ranges that can be listed side by side.

use highwater::store::objects::{KeyRange, ObjectError, Objects};
use highwater::store::pace::Retries;

/// Folders that are looked into for finer cuts.
const MOST_LOOKS: usize = 32;

/// Cuts the keys of `objects` into about `wanted` ranges, by the names of folders
/// at the first levels. The ranges hold every key, listed or not: cuts that are
/// out of date cost time and nothing else.
///
/// # Errors
/// The place cannot be listed.
pub async fn find_ranges(
    objects: &dyn Objects,
    retries: &Retries,
    wanted: usize,
) -> Result<Vec<KeyRange>, ObjectError> {
    let mut cuts = folders_below(objects, retries, "").await?;
    let mut looked = 0;
    // Finer where few folders hold everything; each look is a request.
    while cuts.len() < wanted && looked < MOST_LOOKS.min(cuts.len()) {
        let Some(folder) = cuts.get(looked).cloned() else {
            break;
        };
        looked += 1;
        let below = folders_below(objects, retries, &folder).await?;
        cuts.extend(below);
    }
    cuts.sort_unstable();
    cuts.dedup();
    Ok(KeyRange::cut(&thinned(cuts, wanted)))
}

async fn folders_below(
    objects: &dyn Objects,
    retries: &Retries,
    prefix: &str,
) -> Result<Vec<String>, ObjectError> {
    let names = retries.ask(|| objects.names_below(prefix), |_| ()).await?;
    Ok(names
        .into_iter()
        .filter(|name| name.ends_with('/'))
        .collect())
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
