//! One page of a listing, and what of it belongs to a range of keys.

use http::Method;

use super::super::key::refused_prefix;
use super::super::request::Ask;
use super::super::{KeyRange, Listed, OUR_OWN, ObjectError, Page};
use super::AzureObjects;
use super::answer::ListAnswer;

impl AzureObjects {
    /// Whether the account has no hierarchy of folders. One that has lists depth first:
    /// `a/b` before `a.txt`, which is not the order of keys.
    pub(super) async fn is_flat(&self) -> Result<bool, ObjectError> {
        let look = || async { Ok(self.list("", "", None, false, 1).await?.is_flat) };
        self.flat.get_or_try_init(look).await.copied()
    }

    /// Where a listing may be told to begin, to have all keys that come after `from`:
    /// there, or at the first key of all.
    pub(super) async fn beginning(&self, from: &str) -> Result<String, ObjectError> {
        let may = !from.is_empty() && self.begins_anywhere && is_plain(from);
        Ok(match may && self.is_flat().await? {
            true => from.to_owned(),
            false => String::new(),
        })
    }

    /// One page of the listing below `prefix` (a full one), of so many names, and from
    /// a [`beginning`](Self::beginning).
    pub(super) async fn list(
        &self,
        prefix: &str,
        from: &str,
        marker: Option<&str>,
        by_folder: bool,
        names: u32,
    ) -> Result<ListAnswer, ObjectError> {
        let mut ask = Ask::new(Method::GET, "", "", "list")
            .query("restype", "container")
            .query("comp", "list")
            .query("maxresults", &names.to_string());
        if !prefix.is_empty() {
            ask = ask.query("prefix", prefix);
        }
        if by_folder {
            ask = ask.query("delimiter", "/");
        }
        match marker {
            Some(marker) => ask = ask.query("marker", marker),
            None if !from.is_empty() => ask = ask.query("startFrom", from),
            None => {}
        }
        let answer = self.client.send(ask).await?;
        ListAnswer::parse(&answer.text().await?, &self.url)
    }

    /// Of a page what belongs to a range, in the order of keys; whether it was the last.
    pub(super) fn page(&self, answer: ListAnswer, range: &KeyRange) -> (Page, bool) {
        // Only where the listing is in the order of keys, as far as the end of the range
        // is concerned, does nothing of the range come after what is beyond it.
        let may_end = answer.is_flat && range.upto.as_deref().is_none_or(is_plain);
        let mut objects = answer.objects;
        // The service compares UTF-16, which differs in the rarest of characters.
        objects.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let mut page = Page::default();
        for object in objects {
            let Some(key) = object.key.strip_prefix(&self.prefix) else {
                continue;
            };
            if range.is_beyond(key) {
                match may_end {
                    true => return (page, true),
                    false => continue,
                }
            }
            page.refused.extend(refused_prefix(&object, key, range));
            if !range.holds(key) || key.starts_with(OUR_OWN) {
                continue;
            }
            page.objects.push(Listed {
                key: key.to_owned(),
                ..object
            });
        }
        (page, answer.next.is_none())
    }
}

/// Whether a text compares with any other in UTF-16, which the service does, as it does
/// in UTF-8.
fn is_plain(text: &str) -> bool {
    text.chars().all(|character| u32::from(character) < 0xd800)
}

/// The part of two texts that both begin with.
pub(super) fn common<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.char_indices().zip(other.chars());
    let end = same
        .take_while(|((_, here), there)| here == there)
        .map(|((at, here), _)| at + here.len_utf8())
        .last();
    one.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use url::Url;

    use super::*;

    fn a_page(keys: &[&str], is_flat: bool) -> ListAnswer {
        let objects = keys.iter().map(|key| Listed {
            key: (*key).to_owned(),
            bytes: 1,
            modified_ns: 0,
            etag: None,
        });
        ListAnswer {
            objects: objects.collect(),
            next: Some("more".to_owned()),
            is_flat,
            ..ListAnswer::default()
        }
    }

    /// A hierarchy lists `a/b` before `a.c`: what is beyond a range does not end it.
    #[test]
    fn a_range_ends_early_only_where_keys_come_in_their_order() {
        let options = [("account_name", "a"), ("skip_signature", "true")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let url = Url::parse("az://container").unwrap();
        let place = AzureObjects::open(&url, &BTreeMap::from(options)).unwrap();
        let upto = |key: &str| KeyRange {
            after: String::new(),
            upto: Some(key.to_owned()),
        };
        let deep_first = ["report/1", "report/2", "report.csv"];
        let (page, over) = place.page(a_page(&deep_first, false), &upto("report/"));
        let keys: Vec<_> = page
            .objects
            .iter()
            .map(|object| object.key.as_str())
            .collect();
        assert_eq!((keys, over), (vec!["report.csv"], false));
        let (_, over) = place.page(a_page(&["a", "b", "c"], true), &upto("b"));
        assert!(over);
        // UTF-16 has U+1F600 before U+F900, UTF-8 after it.
        let (_, over) = place.page(a_page(&["\u{1f600}/1"], true), &upto("\u{f900}"));
        assert!(!over);
    }

    #[test]
    fn what_two_keys_begin_with() {
        assert_eq!(common("a/b", "a/c"), "a/");
        assert_eq!(common("a", "ab"), "a");
        assert_eq!(common("ü", "ö"), "");
        assert_eq!(common("", "a"), "");
    }
}
