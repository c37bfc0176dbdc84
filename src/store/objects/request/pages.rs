//! A listing, page by page.

use std::future::Future;

use futures::{StreamExt as _, stream};

use super::super::{ObjectError, Page, Pages};

/// Where a listing stands.
enum At {
    Begin,
    Token(String),
    End,
}

/// The pages that `ask` tells of, each with what the next one is asked for by. A page
/// that failed in a way that passes may be asked for again; nothing is skipped.
pub(in super::super) fn pages<F, Asked>(ask: F) -> Pages
where
    F: Fn(Option<String>) -> Asked + Send + 'static,
    Asked: Future<Output = Result<(Page, Option<String>), ObjectError>> + Send + 'static,
{
    stream::unfold((At::Begin, ask), |(at, ask)| async move {
        let token = match &at {
            At::Begin => None,
            At::Token(token) => Some(token.clone()),
            At::End => return None,
        };
        match ask(token).await {
            Ok((page, next)) => Some((Ok(page), (next.map_or(At::End, At::Token), ask))),
            // The same page may be asked for again.
            Err(error) if error.passes() => Some((Err(error), (at, ask))),
            Err(error) => Some((Err(error), (At::End, ask))),
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::super::ObjectErrorKind;
    use super::*;

    #[tokio::test]
    async fn a_page_that_failed_comes_again_and_the_rest_after_it() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let mut listing = pages(|token| async move {
            if ASKED.fetch_add(1, Ordering::Relaxed) == 1 {
                return Err(ObjectError::new(ObjectErrorKind::Busy, "", "busy"));
            }
            let next = match token.as_deref() {
                None => Some("1".to_owned()),
                Some("1") => Some("2".to_owned()),
                _ => None,
            };
            Ok((Page::default(), next))
        });
        let mut came = Vec::new();
        while let Some(page) = listing.next().await {
            came.push(page.is_ok());
        }
        assert_eq!(came, [true, false, true, true]);
    }
}
