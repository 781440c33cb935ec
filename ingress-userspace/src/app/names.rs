//! Joins the translation, which asks for external names, and the source, which looks them up.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::source::names::{self, Addresses};

/// What is asked for, and what was found.
pub(super) struct Names {
    wanted: watch::Sender<BTreeSet<Arc<str>>>,
    found: watch::Receiver<Addresses>,
}

impl Names {
    /// Starts to look up.
    pub(super) fn start() -> Self {
        let (wanted, names) = watch::channel(BTreeSet::new());
        let (addresses, found) = watch::channel(Addresses::new());
        tokio::spawn(names::run(names, addresses));
        Self { wanted, found }
    }

    /// Asks for these names and no others.
    pub(super) fn want(&self, names: BTreeSet<Arc<str>>) {
        self.wanted.send_if_modified(|wanted| {
            let is_news = *wanted != names;
            *wanted = names;
            is_news
        });
    }

    /// What was found so far.
    pub(super) fn addresses(&mut self) -> Addresses {
        self.found.borrow_and_update().clone()
    }

    /// Returns when there is something that [`addresses`](Self::addresses) has not told.
    pub(super) async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
