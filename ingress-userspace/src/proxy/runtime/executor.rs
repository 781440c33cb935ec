//! Tasks beside that of a connection: HTTP/2 streams, and what drives connections to endpoints.

use std::sync::Arc;

use crate::proxy::runtime::counters::Counters;

/// Runs tasks on the worker's own thread.
#[derive(Clone)]
pub(crate) struct LocalExecutor(Arc<Counters>);

impl LocalExecutor {
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        Self(Arc::clone(counters))
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        let panics = PanicCount::new(&self.0);
        // Into the heap at once: what is spawned is moved several times, and again when it ends.
        let task = Box::pin(task);
        tokio::task::spawn_local(async move {
            let _panics = panics;
            task.await;
        });
    }
}

/// Counts a panic of the task that owns it. The task ends by it, the worker does not.
pub(crate) struct PanicCount(Arc<Counters>);

impl PanicCount {
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        Self(Arc::clone(counters))
    }
}

impl Drop for PanicCount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panics.increment();
        }
    }
}
