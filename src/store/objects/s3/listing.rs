//! One page of a listing, and what of it belongs to a range of keys.

use http::Method;

use super::super::key::refused_prefix;
use super::super::{KeyRange, Listed, OUR_OWN, ObjectError, ObjectErrorKind, Page};
use super::S3Objects;
use super::answer::ListAnswer;

impl S3Objects {
    /// One page of the listing below `prefix` (a full one), of so many names.
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: &str,
        token: Option<&str>,
        by_folder: bool,
        names: u32,
    ) -> Result<ListAnswer, ObjectError> {
        let mut ask = self
            .ask(Method::GET, "", "", "list")
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", &names.to_string())
            .query("prefix", prefix);
        if by_folder {
            ask = ask.query("delimiter", "/");
        }
        match token {
            Some(token) => ask = ask.query("continuation-token", token),
            None if !after.is_empty() => ask = ask.query("start-after", after),
            None => {}
        }
        let answer = self.client.send(ask).await?;
        ListAnswer::parse(&answer.text().await?, &self.url)
    }

    /// A range ends at the first key beyond it: what comes out of order would be in none.
    fn check_order(&self, objects: &[Listed]) -> Result<(), ObjectError> {
        let odd = objects.windows(2).find(|two| two[0].key >= two[1].key);
        let Some([first, next]) = odd else {
            return Ok(());
        };
        let what = format!(
            "the listing of {} is not in the order of keys: {:?} comes after {:?}",
            self.url, next.key, first.key
        );
        Err(ObjectError::new(ObjectErrorKind::Failed, &next.key, what))
    }

    /// Of a page what belongs to a range; whether it was the last.
    pub(super) fn page(
        &self,
        answer: &ListAnswer,
        range: &KeyRange,
    ) -> Result<(Page, bool), ObjectError> {
        let mut page = Page::default();
        let mut over = answer.next().is_none();
        let objects = answer.objects()?;
        self.check_order(&objects)?;
        for object in objects {
            let Some(key) = object.key.strip_prefix(&self.home.prefix) else {
                continue;
            };
            if range.is_beyond(key) {
                over = true;
                break;
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
        Ok((page, over))
    }
}
