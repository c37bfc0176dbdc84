//! A window of texts, asked for until each of them has a vector or is known to get none.
//!
//! What a service refuses for good may be the fault of one text among many. So a batch
//! that is refused is asked for in halves, until a text is found that is refused alone.
//! Then the service is asked for the vector of a word: where it refuses this, too, it is
//! not the text that is wrong.

use std::future::Future;
use std::time::Duration;

use highwater::cancel::Cancel;

use super::client::{Endpoint, EndpointError};
use super::vectors::Vectors;
use crate::service::{HttpError, HttpErrorKind};

/// What every service embeds that embeds anything.
pub const WORD: &str = "word";

/// What is on its way when the run is to end may arrive for so long: it is paid for.
const LAST_CALL: Duration = Duration::from_secs(10);

/// What became of the next texts of a window.
#[derive(Debug)]
pub(super) enum Told {
    /// Their vectors.
    Made(Vectors),
    /// One text, which the service embeds others than.
    Refused(HttpError),
}

/// Texts on their way to their vectors.
#[derive(Debug)]
pub(super) struct Asking<'t> {
    /// What was not asked for yet, or is to be asked for in smaller parts; the next texts
    /// are the last ones here.
    left: Vec<&'t [&'t str]>,
    until: &'t Cancel,
    /// Tokens of answers that were not taken account of yet.
    tokens: u64,
}

impl<'t> Asking<'t> {
    /// Of a window; nothing more is asked when `until` asks to end.
    pub(super) fn new(texts: &'t [&'t str], until: &'t Cancel) -> Self {
        Self {
            left: vec![texts],
            until,
            tokens: 0,
        }
    }

    /// Tokens that were paid for since this was asked for last, whatever for.
    pub(super) fn take_tokens(&mut self) -> u64 {
        std::mem::take(&mut self.tokens)
    }

    /// What becomes of the next texts, in their order; `None` after the last one.
    ///
    /// # Errors
    /// What is wrong with the service, or for all texts; [`EndpointError::Stopped`].
    pub(super) async fn next(
        &mut self,
        endpoint: &Endpoint,
    ) -> Result<Option<Told>, EndpointError> {
        while let Some(texts) = self.left.pop() {
            if texts.is_empty() {
                continue;
            }
            let (texts, rest) = texts.split_at(endpoint.batch(texts));
            self.left.push(rest);
            match self.ask(endpoint, texts).await {
                None => return Err(EndpointError::Stopped),
                Some(Ok(vectors)) => return Ok(Some(Told::Made(endpoint.of_one_length(vectors)?))),
                Some(Err(error)) if !may_be_a_text(&error) => return Err(endpoint.failed(error)),
                Some(Err(error)) if texts.len() > 1 => {
                    tracing::debug!("{error}: {} texts are divided", texts.len());
                    let (first, second) = texts.split_at(texts.len() / 2);
                    self.left.extend([second, first]);
                }
                Some(Err(error)) => {
                    self.check_that_it_is_the_text(endpoint, &error).await?;
                    return Ok(Some(Told::Refused(error)));
                }
            }
        }
        Ok(None)
    }

    /// A text was refused: another one must not be.
    async fn check_that_it_is_the_text(
        &mut self,
        endpoint: &Endpoint,
        refused: &HttpError,
    ) -> Result<(), EndpointError> {
        match self.ask(endpoint, &[WORD]).await {
            None => Err(EndpointError::Stopped),
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) if may_be_a_text(&error) => Err(endpoint.failed(refused.clone())),
            Some(Err(error)) => Err(endpoint.failed(error)),
        }
    }

    /// Asks until it goes well, fails for good, or has failed as often as it may; `None`
    /// where the run is to end before that.
    async fn ask(
        &mut self,
        endpoint: &Endpoint,
        texts: &[&str],
    ) -> Option<Result<Vectors, HttpError>> {
        let (policy, until) = (endpoint.retries(), self.until);
        let mut attempt = 1;
        loop {
            unless_ended(until, endpoint.turn(texts)).await?;
            let asked = endpoint.ask(texts, &mut self.tokens);
            let error = match unless_given_up(until, asked).await? {
                Ok(vectors) => return Some(Ok(vectors)),
                Err(error) => error,
            };
            if !error.passes() || attempt >= policy.attempts {
                return Some(Err(error));
            }
            let pause = policy.pause(attempt, error.retry_after, fastrand::f64());
            tracing::debug!(attempt, ?pause, "{error}; trying again");
            unless_ended(until, tokio::time::sleep(pause)).await?;
            attempt += 1;
        }
    }
}

/// Whether a service says this of what a text is. Where it does not know who asks, or the
/// model, it says so of every text.
fn may_be_a_text(error: &HttpError) -> bool {
    matches!(
        error.kind,
        HttpErrorKind::Rejected | HttpErrorKind::TooLarge
    )
}

/// What is waited for; `None` as soon as the run is to end.
async fn unless_ended<T>(until: &Cancel, wait: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = until.cancelled() => None,
        done = wait => Some(done),
    }
}

/// What is answered; `None` where no answer comes soon after the run was to end.
async fn unless_given_up<T>(until: &Cancel, answer: impl Future<Output = T>) -> Option<T> {
    let given_up = async {
        until.cancelled().await;
        tokio::time::sleep(LAST_CALL).await;
    };
    tokio::select! {
        answer = answer => Some(answer),
        () = given_up => None,
    }
}
