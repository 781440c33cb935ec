//! What users do to a Deployment, and what happens to the API server, while requests go on.

mod rolling {
    pub(crate) mod outage;
    pub(crate) mod propagation;
    pub(crate) mod updates;
}

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use ingress_tests::cluster::{Cluster, Options};
use ingress_tests::curl::Request;
use ingress_tests::harness::{self, Shared, trial};
use ingress_tests::load::{Outcome, Plan, Reuse};
use ingress_tests::rig::wait_until;

type Test = fn(&Stage) -> Result<()>;

fn main() -> ExitCode {
    let stage = Shared::new(Stage::set);
    let tests: [(&str, Test); 9] = [
        (
            "updates::rolling_update_loses_nothing",
            rolling::updates::update,
        ),
        (
            "updates::rolling_update_without_a_pre_stop_hook_loses_nothing",
            rolling::updates::update_without_a_hook,
        ),
        (
            "updates::scale_down_loses_nothing",
            rolling::updates::scale_down,
        ),
        (
            "updates::scale_up_loses_nothing",
            rolling::updates::scale_up,
        ),
        (
            "updates::a_killed_pod_takes_its_own_requests_at_most",
            rolling::updates::kill,
        ),
        (
            "updates::a_node_that_goes_away_loses_nothing",
            rolling::updates::lose_a_node,
        ),
        (
            "propagation::every_change_of_endpoints_reaches_every_worker",
            rolling::propagation::measure,
        ),
        (
            "outage::requests_go_on_without_the_api_server",
            rolling::outage::goes_on,
        ),
        (
            "outage::a_daemon_without_the_api_server_waits_unready",
            rolling::outage::waits,
        ),
    ];
    let trials = tests.map(|(name, test)| {
        let stage = Arc::clone(&stage);
        trial(name, move || test(&*stage.thing()?))
    });
    harness::run(trials.into()).exit_code()
}

/// A cluster where Sluice serves a Deployment of four pods.
struct Stage {
    cluster: Cluster,
}

impl Stage {
    fn set() -> Result<Self> {
        let cluster = Cluster::start(&Options::from_env()?)?;
        cluster.install_sluice(&["--access-log=nginx", &format!("--access-log-format={LOG}")])?;
        cluster.plane.apply(WEB)?;
        cluster.roll_out("deployment/web")?;
        let stage = Self { cluster };
        wait_until("the pods to be served", || {
            let request = Request::get(&format!("http://{EDGE}/"), HOST);
            let response = request.send(&stage.cluster.network.client)?;
            Ok(response.status == 200)
        })?;
        Ok(stage)
    }

    /// 2,000 requests a second, most on kept-alive connections and some on new ones, while `f` goes
    /// on; an error if there were fewer than `rate_min` a second.
    fn under_load(&self, rate_min: f64, f: impl FnOnce() -> Result<()>) -> Result<Outcome> {
        let kept_alive = Plan {
            rate: Some(1500),
            ..Plan::kept_alive(EDGE, HOST)?
        };
        let new = Plan {
            reuse: Reuse::NewConnection,
            rate: Some(500),
            ..kept_alive.clone()
        };
        let start = std::time::Instant::now();
        let client = &self.cluster.network.client;
        let running = [kept_alive.start(client)?, new.start(client)?];
        let done = f().and_then(|()| {
            // What was done is felt for a while.
            let seen = running[0].answered();
            wait_until("more answers", || Ok(running[0].answered() >= seen + 3000))
        });
        let mut outcome = Outcome::default();
        for running in running {
            outcome.add(running.stop()?);
        }
        done?;
        let seconds = start.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of seconds of requests")]
        let rate = outcome.answered as f64 / seconds;
        eprintln!(
            "{} requests in {seconds:.1} s, {rate:.0}/s, {} failed, slowest {:?}",
            outcome.answered,
            outcome.failures.len(),
            outcome.slowest
        );
        ensure!(rate >= rate_min, "only {rate:.0} requests a second");
        Ok(outcome)
    }

    /// Has that many pods.
    fn scale(&self, replicas: usize) -> Result<()> {
        let flag = format!("--replicas={replicas}");
        self.cluster
            .plane
            .kubectl(&["scale", "deployment/web", &flag])?;
        self.wait_for_pods(replicas)
    }

    /// Changes the Deployment by kubectl, whose verb and flags are given, and waits until its four
    /// pods are all new.
    fn change_deployment(&self, change: &[&str]) -> Result<()> {
        let change = [change, &["deployment/web"]].concat();
        self.cluster.plane.kubectl(&change)?;
        self.wait_for_pods(4)
    }

    /// Waits until that many pods of the Deployment exist, none of them ending.
    fn wait_for_pods(&self, count: usize) -> Result<()> {
        self.cluster.roll_out("deployment/web")?;
        wait_until("old pods to be gone", || {
            let names = ["get", "pods", "--selector=app=web", "--output=name"];
            Ok(self.cluster.plane.kubectl(&names)?.lines().count() == count)
        })
    }
}

/// Requests a second below which nothing is shown.
const RATE_MIN: f64 = 1000.0;
const EDGE: &str = "10.1.0.21";
const HOST: &str = "rolling.test";
/// What a request came to: its path, its status, the bytes of its body, and who was asked.
const LOG: &str = "request $request_uri $status $body_bytes_sent $upstream_addr";
const WEB: &str = include_str!("rolling/web.yaml");
