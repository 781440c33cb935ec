//! Builds the proxy's table of each new configuration and hands it to the workers.

use std::sync::Arc;

use ingress_core::diagnostic::Diagnostic;
use ingress_core::ir::Config;

use crate::control::Publish;
use crate::proxy::{DefaultCertificate, Table, TableHandle};

/// Publishes to the workers.
pub(super) struct Publisher {
    pub(super) default_certificate: DefaultCertificate,
    pub(super) handle: TableHandle,
}

impl Publish for Publisher {
    fn publish(&mut self, config: Arc<Config>, generation: u64) -> Vec<Diagnostic> {
        let previous = self.handle.current();
        let (table, problems) = Table::build(
            Some(&previous),
            config,
            generation,
            &self.default_certificate,
        );
        self.handle.publish(table);
        problems.into_iter().map(Diagnostic::from).collect()
    }
}
