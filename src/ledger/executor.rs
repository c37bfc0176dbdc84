//! Runs the kernel's I/O on the runtime of the caller.
//!
//! The kernel is synchronous: it asks an executor to finish a future while its
//! own thread waits. Ours waits on a thread of tokio's blocking pool, where
//! `Handle::block_on` is allowed for every kind of runtime. So no second runtime
//! exists, connections stay with the runtime that opened them, and no worker
//! thread is ever blocked. The kernel must be called inside [`blocking`] only.

use std::future::Future;
use std::sync::Arc;

use delta_kernel::{Engine, KernelError, KernelResult};
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::TaskExecutor;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::runtime::{EnterGuard, Handle};

use super::error::LedgerError;
use crate::store::Store;

#[derive(Debug)]
struct CallersRuntime(Handle);

impl TaskExecutor for CallersRuntime {
    type Guard<'a> = EnterGuard<'a>;

    fn block_on<T>(&self, task: T) -> T::Output
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        self.0.block_on(task)
    }

    fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn(task);
    }

    fn spawn_blocking<T, R>(&self, task: T) -> BoxFuture<'_, KernelResult<R>>
    where
        T: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.0
            .spawn_blocking(task)
            .map(|done| done.map_err(|error| KernelError::Generic(error.to_string())))
            .boxed()
    }

    fn enter(&self) -> EnterGuard<'_> {
        self.0.enter()
    }
}

/// The kernel's engine on `store`; call within a tokio runtime.
pub(super) fn engine(store: &Store) -> Arc<dyn Engine> {
    let executor = Arc::new(CallersRuntime(Handle::current()));
    Arc::new(
        DefaultEngineBuilder::new(store.objects())
            .with_task_executor(executor)
            .build(),
    )
}

/// Runs kernel calls where waiting is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Only a panic inside the kernel, or the end of the runtime.
        Err(error) => Err(LedgerError::Invalid(format!(
            "reading or writing the log: {error}"
        ))),
    }
}
