//! Turns each new observation into a published generation, and remembers what was wrong with it.
//!
//! Stations of a change: source → **reconcile** (translate, publish) → workers. An observation
//! that means what the last one meant is not published: generations count configurations.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ingress_core::diagnostic::{Diagnostic, Severity};
use ingress_core::ir::Config;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Options, Translation, Translator};
use serde::Serialize;
use tracing::{debug, info, warn};

/// Something that a user can mend, for the log and `sluice status`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// `error` where something is not served, else `warning`.
    pub severity: String,
    /// The object or file, the field or line, and the reason.
    pub text: String,
    /// The object whose owner can mend it, such as `Ingress shop/web`; `None` for files and the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The field of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    /// A problem that keeps something from being served.
    pub fn error(text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error.to_string(),
            text: text.into(),
            object: None,
            field: None,
        }
    }

    /// A problem that keeps nothing from being served.
    pub fn warning(text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning.to_string(),
            text: text.into(),
            object: None,
            field: None,
        }
    }
}

impl From<&Diagnostic> for Problem {
    fn from(diagnostic: &Diagnostic) -> Self {
        let severity = diagnostic.severity().to_string();
        let text = diagnostic.to_string();
        let text = text.strip_prefix(&format!("{severity}: ")).unwrap_or(&text);
        Self {
            text: text.to_owned(),
            severity,
            object: Some(diagnostic.object.to_string()),
            field: Some(diagnostic.field.clone()),
        }
    }
}

/// Takes configurations to whoever serves them.
pub trait Publish {
    /// Serves `config` from now on; what of it can't be served is told.
    fn publish(&mut self, config: Arc<Config>, generation: u64) -> Vec<Diagnostic>;
}

/// Translates and publishes.
pub struct Reconciler<P> {
    translator: Translator,
    publisher: P,
    config: Arc<Config>,
    generation: u64,
    /// What the publisher could not serve of this generation.
    unserved: Vec<Diagnostic>,
    problems: BTreeSet<Problem>,
}

/// What an observation came to, for those who tell the owners of objects.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the observation means, apart from the configuration, which is published.
    pub translation: Translation,
    /// What is wrong with which object: what the source, the translation and the publisher found.
    pub diagnostics: Vec<Diagnostic>,
}

impl<P: Publish> Reconciler<P> {
    /// A reconciler that has published nothing yet.
    pub fn new(options: Options, publisher: P) -> Self {
        Self {
            translator: Translator::new(options),
            publisher,
            config: Arc::default(),
            generation: 0,
            unserved: Vec::new(),
            problems: BTreeSet::new(),
        }
    }

    /// Publishes what `snapshot` means; `found` and `problems` are what its source had with it.
    pub fn apply(
        &mut self,
        snapshot: &Snapshot,
        found: &[Diagnostic],
        problems: impl IntoIterator<Item = Problem>,
    ) -> Outcome {
        let mut translation = self.translator.translate(snapshot);
        let config = std::mem::take(&mut translation.config);
        if self.generation == 0 || *self.config != config {
            self.publish(config);
        } else {
            debug!(generation = self.generation, "nothing to publish");
        }
        let mut diagnostics = Vec::clone(&translation.diagnostics);
        diagnostics.extend_from_slice(found);
        diagnostics.extend_from_slice(&self.unserved);
        diagnostics.sort_unstable();
        diagnostics.dedup();
        let mut all: BTreeSet<Problem> = problems.into_iter().collect();
        all.extend(diagnostics.iter().map(Problem::from));
        self.remember(all);
        Outcome {
            translation,
            diagnostics,
        }
    }

    fn remember(&mut self, problems: BTreeSet<Problem>) {
        for problem in problems.difference(&self.problems) {
            warn!(severity = problem.severity, "{}", problem.text);
        }
        for problem in self.problems.difference(&problems) {
            info!("no longer a problem: {}", problem.text);
        }
        self.problems = problems;
    }

    /// The generation published last.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What is published.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The published configuration, as a shared pointer.
    pub fn shared_config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    /// What is wrong with the newest snapshot.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.iter().cloned().collect()
    }

    /// Addresses of all endpoints of the configuration.
    pub fn endpoint_addresses(&self) -> BTreeSet<IpAddr> {
        let backends = self.config.backends.values();
        backends
            .flat_map(|backend| &backend.endpoints)
            .map(|e| e.address.ip())
            .collect()
    }

    /// What is published, in numbers.
    pub fn summary(&self) -> Summary {
        Summary {
            hosts: self.config.hosts.len(),
            rules: self
                .config
                .hosts
                .values()
                .map(|host| host.rules.len())
                .sum(),
            backends: self.config.backends.len(),
            endpoints: self
                .config
                .backends
                .values()
                .map(|b| b.endpoints.len())
                .sum(),
            certificates: self.config.certificates.len(),
        }
    }

    fn publish(&mut self, config: Config) {
        self.generation += 1;
        self.config = Arc::new(config);
        self.unserved = self
            .publisher
            .publish(Arc::clone(&self.config), self.generation);
        info!(
            generation = self.generation,
            hosts = self.config.hosts.len(),
            backends = self.config.backends.len(),
            certificates = self.config.certificates.len(),
            "configuration published"
        );
    }
}

/// A configuration in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Host patterns.
    pub hosts: usize,
    /// Rules of all hosts.
    pub rules: usize,
    /// Backends that rules name.
    pub backends: usize,
    /// Their endpoints.
    pub endpoints: usize,
    /// Certificates from Secrets.
    pub certificates: usize,
}
