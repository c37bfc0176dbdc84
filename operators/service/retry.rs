//! What may be repeated is, after a pause.

use std::future::Future;

use highwater::store::pace::RetryPolicy;

use super::HttpError;

/// Asks until it goes well, fails for good, or has failed as often as the policy allows.
/// Between two attempts it waits by the policy, or as long as the service wants. Only for
/// requests that may be sent twice: an answer that was lost is asked for again.
///
/// # Errors
/// The last failure.
pub async fn retried<T, F: Future<Output = Result<T, HttpError>>>(
    policy: RetryPolicy,
    mut request: impl FnMut() -> F,
) -> Result<T, HttpError> {
    let mut attempt = 1;
    loop {
        let error = match request().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if !error.passes() || attempt >= policy.attempts {
            return Err(error);
        }
        let pause = policy.pause(attempt, error.retry_after, fastrand::f64());
        tracing::debug!(attempt, ?pause, "{error}; trying again");
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}
