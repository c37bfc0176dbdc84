//! Put-if-absent with three outcomes (C1).
//!
//! A put whose answer was lost may have been applied. A client that retries by
//! itself then meets its own object and reports a conflict; a client that gives
//! up reports a failure that was a success. Here the object is read back and
//! compared instead: every entry carries an id of its own, so equal bytes are
//! ours and other bytes are another's. If it is absent, the *same bytes* are
//! sent to the *same path* again. Nothing is ever deleted (C4).

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use tokio::time::Instant;

use super::{Store, StoreError, StoreErrorKind};

/// What became of a put-if-absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOnce {
    /// Our bytes are there.
    Committed,
    /// Another's bytes were there first.
    Lost {
        /// What is there.
        existing: Bytes,
    },
}

/// How long to go on finding out, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Give up with [`StoreErrorKind::Unknown`] after this long.
    pub deadline: Duration,
    /// The first pause between attempts; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Patience {
    /// Two minutes: longer than a failover of the usual stores.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(120),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
        }
    }
}

/// Puts `bytes` at `path` unless something is there, and finds out which it was
/// (C1). `bytes` must hold an id that nobody else can write.
///
/// # Errors
/// [`StoreErrorKind::NoConditionalPut`] if the store cannot do it,
/// [`StoreErrorKind::Unknown`] if the outcome could not be found out in time,
/// and the store's own refusal where it is certain that nothing was written.
pub async fn put_once(
    store: &Store,
    path: &Path,
    bytes: Bytes,
    patience: Patience,
) -> Result<PutOnce, StoreError> {
    let doing = || format!("write {}", store.url_of(path));
    let started = Instant::now();
    let mut pause = patience.first_pause;
    let mut certain = true;
    loop {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let payload = PutPayload::from_bytes(bytes.clone());
        let error = match store.single_shot().put_opts(path, payload, options).await {
            Ok(_) => return Ok(PutOnce::Committed),
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                return Err(no_conditional_put(store));
            }
            Err(error) => error,
        };
        let said = StoreError::from_object_store(&error, &doing());
        // A refusal of the very first attempt means that nothing was written.
        if certain && is_refusal(&said) && store.folder().is_none() {
            return Err(said);
        }
        tracing::debug!(path = %path, error = %said.message, "put-if-absent: reading back (C1)");
        match read_back(store, path).await {
            // In place, but the folder could not be synchronised (C8).
            Ok(Some(existing)) if existing == bytes && store.folder().is_some() => {
                return Err(unknown(store, path, started.elapsed(), &said));
            }
            Ok(Some(existing)) if existing == bytes => return Ok(PutOnce::Committed),
            Ok(Some(existing)) => return Ok(PutOnce::Lost { existing }),
            // A local call is over when it returns: absent is final.
            Ok(None) if store.folder().is_some() => return Err(said),
            Ok(None) => {}
            Err(unreadable) => {
                tracing::debug!(error = %unreadable.message, "put-if-absent: cannot read back");
            }
        }
        certain = false;
        if started.elapsed() + pause >= patience.deadline {
            return Err(unknown(store, path, started.elapsed(), &said));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(patience.longest_pause);
    }
}

/// Errors that a store gives instead of doing anything.
fn is_refusal(error: &StoreError) -> bool {
    matches!(
        error.kind,
        StoreErrorKind::Refused | StoreErrorKind::Usage | StoreErrorKind::NotFound
    )
}

async fn read_back(store: &Store, path: &Path) -> Result<Option<Bytes>, StoreError> {
    let failed = |error: &Error| {
        StoreError::from_object_store(error, &format!("read {}", store.url_of(path)))
    };
    match store.objects().get(path).await {
        Ok(found) => found
            .bytes()
            .await
            .map(Some)
            .map_err(|error| failed(&error)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

fn no_conditional_put(store: &Store) -> StoreError {
    let message = format!(
        "{} cannot put an object only if it is absent, so two runs at once could overwrite each \
         other (C6); use a store that can (S3, GCS, Azure, a local folder)",
        store.url(),
    );
    StoreError::new(StoreErrorKind::NoConditionalPut, message)
}

fn unknown(store: &Store, path: &Path, waited: Duration, last: &StoreError) -> StoreError {
    let message = format!(
        "after {:.1} s it is unknown whether {} was written: it may or may not be there. Nothing \
         was deleted; run again, the next run finds out. Last: {}",
        waited.as_secs_f64(),
        store.url_of(path),
        last.message,
    );
    StoreError::new(StoreErrorKind::Unknown, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::faults::{Fault, FaultyStore};
    use super::*;

    const QUICK: Patience = Patience {
        deadline: Duration::from_millis(200),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
    };

    async fn put(faulty: &std::sync::Arc<FaultyStore>, bytes: &str) -> Result<PutOnce, StoreError> {
        let bytes = Bytes::copy_from_slice(bytes.as_bytes());
        let outcome = put_once(&faulty.store(), &Path::from("log/0"), bytes, QUICK).await;
        assert_eq!(faulty.count("delete"), 0, "C4");
        outcome
    }

    #[tokio::test]
    async fn c1_a_lost_answer_is_recognised() {
        for fault in [Fault::LostAfter, Fault::ErrorAfter] {
            let faulty = FaultyStore::new("log", vec![], Some(fault));
            assert_eq!(put(&faulty, "ours").await.unwrap(), PutOnce::Committed);
            assert_eq!(faulty.count("put"), 1, "not sent again: it was there");
        }
    }

    #[tokio::test]
    async fn c1_absent_is_sent_again_to_the_same_place() {
        let script = vec![
            Fault::ErrorBefore,
            Fault::ConflictBefore,
            Fault::ErrorBefore,
        ];
        let faulty = FaultyStore::new("log", script, None);
        assert_eq!(put(&faulty, "ours").await.unwrap(), PutOnce::Committed);
        assert_eq!(faulty.count("put log/0"), 4);
    }

    #[tokio::test]
    async fn c1_anothers_entry_is_lost_and_handed_back() {
        let theirs = Bytes::from_static(b"theirs");
        let faulty = FaultyStore::new("log", vec![Fault::Overtaken(theirs.clone())], None);
        assert_eq!(
            put(&faulty, "ours").await.unwrap(),
            PutOnce::Lost { existing: theirs }
        );
    }

    #[tokio::test]
    async fn c1_unknown_is_said_when_time_is_up() {
        let faulty = FaultyStore::new("log", vec![], Some(Fault::ErrorBefore));
        let error = put(&faulty, "ours").await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unknown);
        assert!(
            error.is_retryable() && error.message.contains("next run"),
            "{error}"
        );
    }

    /// The control arm: a client that retries by itself meets its own object and
    /// reports a conflict that is none (C2).
    #[tokio::test]
    async fn control_arm_a_retrying_client_misreports() {
        let faulty = FaultyStore::new("log", vec![Fault::LostAfter], None);
        let client = faulty.store().single_shot();
        let mut last = None;
        for _ in 0..2 {
            let options = PutOptions {
                mode: PutMode::Create,
                ..PutOptions::default()
            };
            last = Some(
                client
                    .put_opts(&Path::from("log/0"), "ours".into(), options)
                    .await,
            );
        }
        assert!(
            matches!(last, Some(Err(Error::AlreadyExists { .. }))),
            "the test proves nothing"
        );
    }
}
