//! A listing, one object at a time, its next pages on their way.

use std::collections::VecDeque;

use futures::StreamExt as _;
use highwater::store::objects::{Listed, ObjectError, ObjectErrorKind, Page, Pages, Refused};
use highwater::store::pace::Retries;
use tokio::sync::mpsc;

use super::refusals::Refusals;

/// Pages of a listing that wait, beside the one in use.
const PAGES_AHEAD: usize = 1;

/// One side of a comparison.
pub(crate) struct Cursor {
    pages: mpsc::Receiver<Result<Page, ObjectError>>,
    objects: VecDeque<Listed>,
    /// The last key: an order that is none would lose objects.
    last: String,
    refusals: Refusals,
    /// Whether a folder that cannot be read is one more name that is refused.
    past_unreadable: bool,
}

impl Cursor {
    /// A side that is empty.
    pub(super) fn nothing() -> Self {
        let (_, pages) = mpsc::channel(1);
        Self::of(pages)
    }

    fn of(pages: mpsc::Receiver<Result<Page, ObjectError>>) -> Self {
        Self {
            pages,
            objects: VecDeque::new(),
            last: String::new(),
            refusals: Refusals::default(),
            past_unreadable: false,
        }
    }

    /// Reads a listing in a task of its own. A folder that cannot be read is its end, and
    /// an error: who does not ask [what was refused](Self::refuses) would take for gone
    /// what is in it.
    pub(crate) fn new(pages: Pages, retries: Retries) -> Self {
        let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
        tokio::spawn(read_ahead(pages, retries, sender));
        Self::of(receiver)
    }

    /// Goes on past folders that cannot be read, for who asks what was refused before he
    /// takes anything for gone.
    pub(crate) fn past_unreadable(self) -> Self {
        Self {
            past_unreadable: true,
            ..self
        }
    }

    /// The next object, left where it is; names that are no objects go to `refused`.
    pub(crate) async fn peek(
        &mut self,
        refused: &mut Vec<Refused>,
    ) -> Result<Option<&Listed>, ObjectError> {
        while self.objects.is_empty() {
            let Some(page) = self.pages.recv().await else {
                return Ok(None);
            };
            let page = page?;
            self.look_at(&page.refused)?;
            let told = page.refused.into_iter();
            refused.extend(told.filter(|one| !one.is_told_elsewhere()));
            for object in &page.objects {
                if object.key <= self.last && !self.last.is_empty() {
                    let what = format!(
                        "the listing has {:?} after {:?}: it is not in the order of keys, and \
                         cannot be compared",
                        object.key, self.last
                    );
                    return Err(ObjectError::new(ObjectErrorKind::Failed, &object.key, what));
                }
                self.last.clone_from(&object.key);
            }
            self.objects = page.objects.into();
        }
        Ok(self.objects.front())
    }

    /// Keeps in mind what was refused.
    fn look_at(&mut self, refused: &[Refused]) -> Result<(), ObjectError> {
        for Refused { key, .. } in refused {
            self.refusals.add(key);
        }
        let is_folder = |one: &&Refused| one.is_unreadable() && one.key.ends_with('/');
        match refused.iter().find(is_folder) {
            Some(Refused { key, reason }) if !self.past_unreadable => {
                let what = format!("{key:?} cannot be listed: {reason}");
                Err(ObjectError::new(ObjectErrorKind::Failed, key, what))
            }
            _ => Ok(()),
        }
    }

    /// Whether a key that the listing has not is there nevertheless: it was refused, or
    /// what is above it was. Known of keys up to the object that was peeked at.
    pub(crate) fn refuses(&self, key: &str) -> bool {
        self.refusals.cover(key)
    }

    /// Takes what was peeked at.
    pub(crate) fn take(&mut self) -> Option<Listed> {
        self.objects.pop_front()
    }
}

async fn read_ahead(
    mut pages: Pages,
    retries: Retries,
    sender: mpsc::Sender<Result<Page, ObjectError>>,
) {
    let mut attempt = 1;
    loop {
        let Some(next) = retries.unless_stopped(pages.next()).await else {
            // Not the end of the listing: what was not listed is not gone.
            let _ = sender.send(Err(ObjectError::stopped())).await;
            return;
        };
        let Some(page) = next else { return };
        match page {
            // A listing goes on with the page that failed.
            Err(error) if error.passes() && attempt < retries.attempts() => {
                retries.pause(attempt, &error).await;
                attempt += 1;
            }
            page => {
                attempt = 1;
                let over = page.is_err();
                if sender.send(page).await.is_err() || over {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use highwater::store::objects::{FolderObjects, KeyRange, Objects as _};
    use highwater::store::pace::RetryPolicy;

    use super::*;

    /// The longest path, with the NUL at its end, in bytes.
    const LONGEST_PATH_BYTES: usize = 4096;

    #[tokio::test]
    async fn a_folder_that_cannot_be_read_is_an_end_or_known_to_be_there() {
        let home = tempfile::tempdir().unwrap();
        let locked = "d".repeat(250);
        let things = home.path().join("things");
        fs::create_dir_all(things.join(&locked)).unwrap();
        fs::write(things.join("ok"), "x").unwrap();
        // Where the path of a folder is too long not even root can read it.
        let mut deep = home.path().to_owned();
        while deep.as_os_str().len() + locked.len() < LONGEST_PATH_BYTES {
            deep.push("p".repeat(150));
        }
        fs::create_dir_all(&deep).unwrap();
        let root = deep.join("things");
        fs::rename(things, &root).unwrap();

        let objects = FolderObjects::new(&root);
        let cursor = || {
            let retries = Retries::new(RetryPolicy::default());
            Cursor::new(objects.pages(KeyRange::all()), retries)
        };
        let mut refused = Vec::new();
        let error = cursor().peek(&mut refused).await.unwrap_err();
        assert_eq!(error.key, format!("{locked}/"), "{error}");
        let mut past = cursor().past_unreadable();
        let first = past.peek(&mut refused).await.unwrap();
        assert_eq!(first.map(|object| object.key.as_str()), Some("ok"));
        assert!(past.refuses(&format!("{locked}/x")) && !past.refuses("x"));
        assert_eq!(refused.len(), 1);
    }
}
