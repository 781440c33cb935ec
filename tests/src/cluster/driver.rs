//! The thread that drives what the rig does in the background: API clients, watches, pods.

use std::future::Future;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A runtime on a thread of its own. Dropping it ends everything that runs on it.
#[derive(Debug)]
pub struct Driver {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// Starts the thread.
    pub fn start(name: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(stopped);
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread.context("failed to start a thread")?),
        })
    }

    /// Where tasks can be spawned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits for a future, on the calling thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
