//! Removing keys by a request each, where no request removes many.

use futures::{StreamExt as _, stream};

use super::super::{ObjectError, ObjectErrorKind};

/// Requests in flight: so many are one step of the caller's own concurrency.
const IN_FLIGHT: usize = 16;

/// Removes each of `keys` by `remove` and tells those that failed; one that was not there
/// any more is removed.
pub(in super::super) async fn remove_each<R>(
    keys: &[String],
    remove: impl Fn(String) -> R,
) -> Vec<(String, ObjectError)>
where
    R: Future<Output = Result<(), ObjectError>>,
{
    let removed = stream::iter(keys.to_vec())
        .map(|key| {
            let removed = remove(key.clone());
            async move { (removed.await, key) }
        })
        .buffer_unordered(IN_FLIGHT);
    let failed = removed.filter_map(|(removed, key)| async move {
        let error = removed.err()?;
        (error.kind != ObjectErrorKind::Vanished).then_some((key, error))
    });
    failed.collect().await
}
