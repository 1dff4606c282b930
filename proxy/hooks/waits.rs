//! What the Lua threads of one VM wait for, kept outside the VM: a wait ends with its thread, not when the collector comes by.
//! Inside, it would hold the VM that holds it, and a request of a run that is gone would never end.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// The waits, by the address of the thread. A thread waits for one thing at a time.
#[derive(Default)]
pub(super) struct Waits(Mutex<HashMap<usize, Arc<dyn End>>>);

trait End: Send + Sync {
    fn end(&self);
}

/// Work that somebody waits for; none once it is done, or ended.
struct Work<F>(Mutex<Option<Pin<Box<F>>>>);

impl<F: Future + Send> End for Work<F> {
    fn end(&self) {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(work);
    }
}

/// What the VM has of a wait.
struct Wait<F>(Arc<Work<F>>);

impl<F: Future> Future for Wait<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut work = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(future) = work.as_mut() else { return Poll::Pending };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            *work = None;
        }
        polled
    }
}

/// A thread at work; dropping it ends what it waits for.
pub(super) struct Scope<'a> {
    waits: &'a Waits,
    thread: usize,
}

impl Waits {
    /// Begins a thread's work.
    pub(super) fn scope(&self, thread: usize) -> Scope<'_> {
        Scope { waits: self, thread }
    }

    /// Lets the thread wait for `future`, which ends at the latest with the thread's scope.
    pub(super) fn hold<F>(&self, thread: usize, future: F) -> impl Future<Output = F::Output> + Send + use<F>
    where
        F: Future + Send + 'static,
    {
        let work = Arc::new(Work(Mutex::new(Some(Box::pin(future)))));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(thread, work.clone());
        Wait(work)
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let wait = self.waits.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.thread);
        // The lock is open again: what ends may have scopes of other threads inside.
        if let Some(wait) = wait {
            wait.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_its_thread_and_all_that_is_inside() {
        let waits = Arc::new(Waits::default());
        let (tell, told) = oneshot::channel::<()>();
        let scope = waits.scope(1);
        let inner = waits.clone();
        let outer = waits.hold(1, async move {
            let _scope = inner.scope(2);
            let wait = inner.hold(2, async move {
                let _tell = tell;
                std::future::pending::<()>().await;
            });
            wait.await;
        });
        let mut outer = Box::pin(outer);
        assert!(futures_util::poll!(&mut outer).is_pending());
        drop(scope);
        assert!(told.await.is_err(), "the work is gone, though somebody still holds the wait");
        assert!(futures_util::poll!(&mut outer).is_pending());
        assert!(waits.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_wait_that_is_over_returns_what_came() {
        let waits = Waits::default();
        let _scope = waits.scope(1);
        assert_eq!(waits.hold(1, async { 7 }).await, 7);
        assert_eq!(waits.hold(1, async { 8 }).await, 8);
    }
}
