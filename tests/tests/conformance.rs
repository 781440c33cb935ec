//! The scenarios of the official conformance suite, each a test, on one cluster.
//!
//! Features follow each other: a default backend of one would answer for another.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use ingress_tests::cluster::{Cluster, Options};
use ingress_tests::conformance::{ADAPTATIONS, Feature, Request, Suite, check};
use ingress_tests::harness::{self, Shared, trial};

fn main() -> Result<ExitCode> {
    let suite = Suite::load()?;
    let stage = Arc::new(Stage::new(suite.clone()));
    let trials = Scenario::all(&suite).map(|scenario| {
        let stage = Arc::clone(&stage);
        let name = scenario.name(&suite);
        trial(name, move || stage.run(&scenario))
    });
    let conclusion = harness::run(trials.collect());
    if conclusion.num_passed + conclusion.num_failed > 0 {
        let mut stdout = std::io::stdout();
        for adaptation in ADAPTATIONS {
            writeln!(stdout, "adapted: {adaptation}")?;
        }
    }
    Ok(conclusion.exit_code())
}

/// What a test of the suite is about; features by the letters of their requests.
enum Scenario {
    Request(Box<Request>),
    Spread(String),
    NoAddress(String),
}

impl Scenario {
    fn all(suite: &Suite) -> impl Iterator<Item = Self> {
        let requests = suite
            .requests
            .iter()
            .cloned()
            .map(Box::new)
            .map(Self::Request);
        let of_features = suite.ingresses.iter().filter_map(|(key, ingress)| {
            if ingress.expect.is_some() {
                return Some(Self::Spread(key.clone()));
            }
            (ingress.has_address == Some(false)).then(|| Self::NoAddress(key.clone()))
        });
        requests.chain(of_features.collect::<Vec<_>>())
    }

    fn feature(&self) -> &str {
        match self {
            Self::Request(request) => request.feature(),
            Self::Spread(feature) | Self::NoAddress(feature) => feature,
        }
    }

    fn name(&self, suite: &Suite) -> String {
        let feature = &suite.ingresses[self.feature()].name;
        match self {
            Self::Request(request) => format!(
                "{feature}::{}:{}:{}://{}{}",
                request.id, request.method, request.scheme, request.host, request.path
            ),
            Self::Spread(key) => format!("{feature}::{key}:every_pod_answers"),
            Self::NoAddress(key) => format!("{feature}::{key}:it_gets_no_address"),
        }
    }
}

/// The cluster, and the feature that is set up in it.
struct Stage {
    suite: Suite,
    cluster: Arc<Shared<Cluster>>,
    feature: Mutex<Option<(String, Feature)>>,
}

impl Stage {
    fn new(suite: Suite) -> Self {
        Self {
            suite,
            cluster: Shared::new(start),
            feature: Mutex::default(),
        }
    }

    fn run(&self, scenario: &Scenario) -> Result<()> {
        let mut set_up = self.feature.lock().unwrap_or_else(PoisonError::into_inner);
        let key = scenario.feature();
        if set_up.as_ref().is_none_or(|(known, _)| known != key) {
            // The last feature goes before the next one comes.
            *set_up = None;
            let feature = Feature::set_up(&self.cluster.thing()?, &self.suite.ingresses[key])?;
            *set_up = Some((key.to_owned(), feature));
        }
        let (_, feature) = set_up.as_ref().context("no feature is set up")?;
        match scenario {
            Scenario::Request(request) => check(feature, request),
            Scenario::Spread(_) => feature.is_spread(),
            Scenario::NoAddress(_) => feature.has_no_address(),
        }
    }
}

fn start() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::from_env()?)?;
    cluster.install_sluice(&[])?;
    Ok(cluster)
}
