//! C1, C2, C4: whatever happens to the log PUT, exactly one commit, and nothing
//! deleted. The control arm does the same with the kernel's own committer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::snapshot::Snapshot;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};

use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::super::executor::{blocking, engine};
use super::super::{ChangeKind, LedgerError, ROOT};
use super::kit::{change, log_entries, open};
use crate::store::faults::{Fault, FaultyStore};
use crate::store::{Store, StoreErrorKind};

/// Three commits under faults: three entries, every row once.
async fn three_commits(faulty: &Arc<FaultyStore>) {
    let store = faulty.store();
    let mut ledger = open(&store).await;
    for from in 0..3 {
        let head = ledger
            .commit(change(&store, ChangeKind::Append, from, &[from]).await)
            .await;
        assert_eq!(head.unwrap().commit, from + 1);
    }
    assert_eq!(log_entries(&store).await.len(), 3, "exactly one entry each");
    assert_eq!(open(&store).await.head().unwrap().rows, 3);
    assert_eq!(faulty.count("delete"), 0, "C4");
}

#[tokio::test]
async fn c1_the_answer_to_every_log_put_is_lost() {
    for fault in [Fault::LostAfter, Fault::ErrorAfter] {
        three_commits(&FaultyStore::new("_delta_log", vec![], Some(fault))).await;
    }
}

#[tokio::test]
async fn c1_conflicts_and_errors_with_nothing_there() {
    let script = vec![
        Fault::ErrorBefore,
        Fault::ConflictBefore,
        Fault::LostAfter,
        Fault::ConflictBefore,
        Fault::ErrorAfter,
        Fault::ErrorBefore,
        Fault::ErrorBefore,
    ];
    three_commits(&FaultyStore::new("_delta_log", script, None)).await;
}

#[tokio::test]
async fn c1_unknown_is_reported_and_the_next_run_finds_out() {
    // Nothing arrives: unknown, and nothing was published.
    let faulty = FaultyStore::new("_delta_log", vec![], Some(Fault::ErrorBefore));
    let store = faulty.store();
    let mark = Path::from("_highwater/loads/0/00000.json");
    store.objects().put(&mark, "{}".into()).await.unwrap();
    let first = change(&store, ChangeKind::Replace, 0, &[1]).await;
    let error = open(&store).await.commit(first.clone()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let LedgerError::Store(inner) = &error else {
        panic!("{error}")
    };
    assert_eq!(inner.kind, StoreErrorKind::Unknown);
    assert_eq!(faulty.count("delete"), 0, "C4");
    assert!(
        open(&store).await.head().is_none(),
        "the next run finds out"
    );
    assert!(log_entries(&store).await.is_empty());

    // It arrives, but nothing can be read any more: unknown, and published.
    let faulty = FaultyStore::new("_delta_log", vec![Fault::LostAndBlind], None);
    let store = faulty.store();
    let mut ledger = open(&store).await;
    let first = change(&store, ChangeKind::Replace, 0, &[1]).await;
    let error = ledger.commit(first.clone()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    faulty.heal();
    assert_eq!(
        open(&store).await.head().unwrap().run,
        first.run,
        "the next run finds out"
    );
    // The same run that tries again does not publish twice.
    let error = ledger.commit(first.clone()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Overtaken { by_run, .. } if by_run == first.run));
    assert_eq!(log_entries(&store).await.len(), 1);
}

/// The control arm (truth.md): the same lost answers with a client that sends
/// again by itself and the kernel's own committer. It must misreport: our own
/// commit comes back as a conflict, and a loop that believes it commits twice.
#[tokio::test]
async fn control_arm_the_plain_committer_publishes_twice() {
    let faulty = FaultyStore::new("never", vec![], None);
    let quiet = faulty.store();
    open(&quiet)
        .await
        .commit(change(&quiet, ChangeKind::Append, 0, &[0]).await)
        .await
        .unwrap();

    // The answer to the first log PUT is lost; the client sends it again.
    let lossy = FaultyStore::around(quiet.objects(), "_delta_log", vec![Fault::LostAfter], None);
    let retrying: Arc<dyn object_store::ObjectStore> = Arc::new(Retrying(lossy.store()));
    let url = url::Url::parse("memory:///lake/").unwrap();
    let engine = engine(&Store::from_clients(Arc::clone(&retrying), retrying, url));
    let mut conflicts = 0;
    loop {
        let engine = Arc::clone(&engine);
        let committed = blocking(move || {
            let snapshot = Snapshot::builder_for(ROOT).build(engine.as_ref()).unwrap();
            let transaction = snapshot
                .update_table(UpdateTableOperation::Write, "control", true)
                .with_transaction_id("control", 1)
                .build(engine.as_ref(), Box::new(FileSystemCommitter::new()))
                .unwrap();
            Ok(matches!(
                transaction.commit(engine.as_ref()),
                Ok(CommitResult::Committed(_))
            ))
        });
        if committed.await.unwrap() {
            break;
        }
        conflicts += 1;
    }
    assert_eq!(conflicts, 1, "its own commit came back as a conflict");
    assert_eq!(
        log_entries(&quiet).await.len(),
        3,
        "one commit was published twice"
    );
}

/// What HTTP clients do: send again, and report what the second answer says.
#[derive(Debug)]
struct Retrying(Store);

impl std::fmt::Display for Retrying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("retrying")
    }
}

#[async_trait::async_trait]
impl object_store::ObjectStore for Retrying {
    async fn put_opts(
        &self,
        path: &object_store::path::Path,
        payload: object_store::PutPayload,
        opts: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        let client = self.0.single_shot();
        match client.put_opts(path, payload.clone(), opts.clone()).await {
            Err(object_store::Error::Generic { .. }) => client.put_opts(path, payload, opts).await,
            done => done,
        }
    }
    async fn put_multipart_opts(
        &self,
        path: &object_store::path::Path,
        opts: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.objects().put_multipart_opts(path, opts).await
    }
    async fn get_opts(
        &self,
        path: &object_store::path::Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.objects().get_opts(path, options).await
    }
    fn delete_stream(
        &self,
        paths: futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>> {
        self.0.objects().delete_stream(paths)
    }
    fn list(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.objects().list(prefix)
    }
    async fn list_with_delimiter(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.objects().list_with_delimiter(prefix).await
    }
    async fn copy_opts(
        &self,
        from: &object_store::path::Path,
        to: &object_store::path::Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.objects().copy_opts(from, to, options).await
    }
}
