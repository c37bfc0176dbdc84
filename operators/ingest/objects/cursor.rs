//! A listing, one object at a time, its next pages on their way.

use std::collections::VecDeque;

use futures::StreamExt as _;
use highwater::store::objects::{Listed, ObjectError, ObjectErrorKind, Page, Pages, Refused};
use highwater::store::pace::Retries;
use tokio::sync::mpsc;

/// Pages of a listing that wait, beside the one in use.
const PAGES_AHEAD: usize = 1;

/// One side of a comparison.
pub(crate) struct Cursor {
    pages: mpsc::Receiver<Result<Page, ObjectError>>,
    objects: VecDeque<Listed>,
    /// The last key: an order that is none would lose objects.
    last: String,
}

impl Cursor {
    /// A side that is empty.
    pub(super) fn nothing() -> Self {
        let (_, pages) = mpsc::channel(1);
        Self {
            pages,
            objects: VecDeque::new(),
            last: String::new(),
        }
    }

    /// Reads a listing in a task of its own.
    pub(crate) fn new(pages: Pages, retries: Retries) -> Self {
        let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
        tokio::spawn(read_ahead(pages, retries, sender));
        Self {
            pages: receiver,
            objects: VecDeque::new(),
            last: String::new(),
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
            let mut page = page?;
            refused.append(&mut page.refused);
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
