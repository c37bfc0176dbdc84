//! Cuts among keys that no folder divides.
//!
//! A listing may begin after any text, so a store can be asked for the first key
//! after it. That is enough to find the characters in which keys first differ, level
//! by level: `o0`, `o1`, ... of numbered names, the first digits of hashes. What is
//! found says where keys are, not how many; it divides work and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;

/// Requests for cuts, at most: a few hundredths of what the objects cost that make
/// them worth while.
const MOST_LOOKS: usize = 48;

/// Cuts below each of `prefixes`, about `wanted` of them; in no order. `first_after`
/// tells the first key after a text.
///
/// # Errors
/// Those of `first_after`.
pub(super) async fn flat_cuts<E, F: Future<Output = Result<Option<String>, E>>>(
    prefixes: Vec<String>,
    wanted: usize,
    first_after: impl Fn(String) -> F,
) -> Result<Vec<String>, E> {
    let looks = AtomicUsize::new(MOST_LOOKS);
    let mut level = prefixes;
    loop {
        let each = level
            .iter()
            .map(|prefix| children(prefix, &first_after, &looks));
        let next: Vec<String> = try_join_all(each).await?.concat();
        if looks.load(Ordering::Relaxed) == 0 {
            // Of some not all that is below was seen: then they are cuts themselves.
            level.extend(next);
            return Ok(level);
        }
        if next.len() >= wanted || next.is_empty() {
            return Ok(next);
        }
        level = next;
    }
}

/// `prefix` with each character that follows it in some key.
async fn children<E, F: Future<Output = Result<Option<String>, E>>>(
    prefix: &str,
    first_after: &impl Fn(String) -> F,
    looks: &AtomicUsize,
) -> Result<Vec<String>, E> {
    let mut children = Vec::new();
    let mut after = prefix.to_owned();
    let take = |left: usize| left.checked_sub(1);
    while looks
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
    {
        let Some(key) = first_after(after).await? else {
            break;
        };
        let Some(character) = key
            .strip_prefix(prefix)
            .and_then(|rest| rest.chars().next())
        else {
            break;
        };
        children.push(format!("{prefix}{character}"));
        let Some(next) = successor(character) else {
            break;
        };
        after = format!("{prefix}{next}");
    }
    Ok(children)
}

/// The next character in the order of bytes, which is that of numbers.
fn successor(character: char) -> Option<char> {
    (u32::from(character) + 1..=u32::from(char::MAX)).find_map(char::from_u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::ops::Bound;

    use highwater::store::objects::KeyRange;
    use proptest::prelude::*;

    use super::*;

    /// The cuts of some keys, and how many looks they took.
    fn cuts(keys: &BTreeSet<String>, prefix: &str, wanted: usize) -> (Vec<String>, usize) {
        let looks = AtomicUsize::new(0);
        let first_after = |after: String| {
            looks.fetch_add(1, Ordering::Relaxed);
            let found = keys
                .range((Bound::Excluded(after), Bound::Unbounded))
                .next();
            std::future::ready(Ok::<_, Infallible>(found.cloned()))
        };
        let cuts = flat_cuts(vec![prefix.to_owned()], wanted, first_after);
        let mut cuts = futures::executor::block_on(cuts).unwrap();
        cuts.sort_unstable();
        cuts.dedup();
        (cuts, looks.into_inner())
    }

    /// How many keys each range has.
    fn sizes(keys: &BTreeSet<String>, cuts: &[String]) -> Vec<usize> {
        let ranges = KeyRange::cut(cuts);
        let size = |range: &KeyRange| keys.iter().filter(|key| range.holds(key)).count();
        ranges.iter().map(size).collect()
    }

    #[test]
    fn numbered_names_are_divided() {
        let keys = (0..100_000)
            .map(|number| format!("data/o{number:06}"))
            .collect();
        let (cuts, looks) = cuts(&keys, "data/", 8);
        let names = (0..10).map(|digit| format!("data/o0{digit}"));
        assert_eq!(cuts, names.collect::<Vec<_>>());
        assert!(looks <= 16, "{looks}");
        let sizes = sizes(&keys, &cuts);
        assert!(sizes.iter().all(|size| *size <= 10_001), "{sizes:?}");
    }

    #[test]
    fn hashes_are_divided() {
        let hash = |number: u64| format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let keys: BTreeSet<String> = (0..10_000).map(hash).collect();
        let (cuts, looks) = cuts(&keys, "", 8);
        assert_eq!(cuts.len(), 16);
        assert!(looks <= 17, "{looks}");
        assert!(sizes(&keys, &cuts).iter().all(|size| *size < 1_000));
    }

    proptest! {
        #[test]
        fn whatever_the_keys_are_it_ends_soon_and_loses_none(
            keys in proptest::collection::btree_set("[a-c\u{10ffff}/é]{1,6}", 0..60),
            wanted in 1_usize..20,
        ) {
            let (cuts, looks) = cuts(&keys, "", wanted);
            prop_assert!(looks <= MOST_LOOKS);
            prop_assert_eq!(sizes(&keys, &cuts).into_iter().sum::<usize>(), keys.len());
        }
    }
}
