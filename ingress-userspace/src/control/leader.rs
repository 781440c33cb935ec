//! Which of all pods speaks for them: a Lease that one holds and renews.
//!
//! The rules are those of client-go's leader election: a holder renews three times in the time
//! that others wait; others go by their own clock since they last saw the Lease change, never by
//! the times in it, so clocks need not agree. (The crates that do this are behind kube's
//! version.)

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// One pod's part in the election.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
    /// Whom the Lease names when this one leads: unique among all pods.
    pub identity: String,
    /// How long after its last renewal a Lease may be taken, in whole seconds.
    pub ttl: Duration,
}

/// Takes part until `leading` has no receiver any more; `leading` tells whether this one leads.
pub(super) async fn campaign(client: Client, candidate: Candidate, leading: watch::Sender<bool>) {
    let mut election = Election {
        leases: Api::namespaced(client, &candidate.namespace),
        candidate,
        seen: None,
        renewed: None,
        is_failing: false,
    };
    loop {
        let pause = election.turn(&leading).await;
        tokio::select! {
            () = leading.closed() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Gives the Lease up, if this one holds it, so that nobody has to wait for its end.
pub(super) async fn resign(client: Client, candidate: &Candidate) -> kube::Result<()> {
    let leases = Api::<Lease>::namespaced(client, &candidate.namespace);
    let Some(mut lease) = leases.get_opt(&candidate.lease).await? else {
        return Ok(());
    };
    if holder(&lease) != Some(&*candidate.identity) {
        return Ok(());
    }
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
    }
    let post = PostParams::default();
    leases.replace(&candidate.lease, &post, &lease).await?;
    Ok(())
}

struct Election {
    leases: Api<Lease>,
    candidate: Candidate,
    /// The version of somebody else's Lease, and when it was first seen.
    seen: Option<(Option<String>, Instant)>,
    /// When this one took or renewed the Lease last.
    renewed: Option<Instant>,
    /// Whether the last look failed.
    is_failing: bool,
}

impl Election {
    /// Looks at the Lease once, takes or renews it, and says when to look again.
    async fn turn(&mut self, leading: &watch::Sender<bool>) -> Duration {
        let ttl = self.candidate.ttl;
        let started = Instant::now();
        let outcome = timeout(ttl / 3, self.take_or_renew()).await;
        let error = match outcome {
            Ok(Ok(is_held)) => {
                self.renewed = is_held.then_some(started);
                None
            }
            Ok(Err(error)) => Some(format!("{:#}", anyhow::Error::from(error))),
            Err(_) => Some("no answer in time".to_owned()),
        };
        self.log(error.as_deref());
        // Stops a third before anybody else may start.
        let leads = self.renewed.is_some_and(|at| at.elapsed() < ttl * 2 / 3);
        let changed = leading.send_if_modified(|was| std::mem::replace(was, leads) != leads);
        if changed && leads {
            info!(lease = self.candidate.lease, "leading");
        } else if changed {
            warn!(lease = self.candidate.lease, "no longer leading");
        }
        ttl / 3
    }

    fn log(&mut self, error: Option<&str>) {
        let was_failing = std::mem::replace(&mut self.is_failing, error.is_some());
        let lease = &self.candidate.lease;
        match error {
            Some(error) if !was_failing => {
                warn!(
                    lease,
                    error, "the Lease can't be read or written; trying again"
                );
            }
            Some(error) => debug!(lease, error, "the Lease still can't be read or written"),
            None => {}
        }
    }

    /// Whether this one holds the Lease now.
    async fn take_or_renew(&mut self) -> kube::Result<bool> {
        let name = self.candidate.lease.clone();
        let Some(lease) = self.leases.get_opt(&name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(None)),
            };
            return won(self.leases.create(&PostParams::default(), &lease).await);
        };
        if !self.may_take(&lease) {
            return Ok(false);
        }
        // Carries the version: of two who try, one wins.
        let mine = Lease {
            spec: Some(self.spec(Some(&lease))),
            ..lease
        };
        let post = PostParams::default();
        won(self.leases.replace(&name, &post, &mine).await)
    }

    fn may_take(&mut self, lease: &Lease) -> bool {
        let holder = holder(lease).filter(|holder| !holder.is_empty());
        if holder.is_none() || holder == Some(&*self.candidate.identity) {
            return true;
        }
        let version = &lease.metadata.resource_version;
        match &self.seen {
            Some((seen, since)) if seen == version => {
                let seconds = lease
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.lease_duration_seconds);
                let theirs = seconds.and_then(|seconds| u64::try_from(seconds).ok());
                since.elapsed() >= theirs.map_or(self.candidate.ttl, Duration::from_secs)
            }
            _ => {
                self.seen = Some((version.clone(), Instant::now()));
                false
            }
        }
    }

    fn spec(&self, before: Option<&Lease>) -> LeaseSpec {
        let Candidate { identity, ttl, .. } = &self.candidate;
        let now = MicroTime(Timestamp::now());
        let before = before
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let is_renewal = before.holder_identity.as_ref() == Some(identity);
        let transitions = before.lease_transitions.unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(identity.clone()),
            lease_duration_seconds: i32::try_from(ttl.as_secs()).ok(),
            acquire_time: before
                .acquire_time
                .filter(|_| is_renewal)
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions + i32::from(!is_renewal)),
            ..LeaseSpec::default()
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

/// A conflict means that somebody else was faster.
fn won(outcome: kube::Result<Lease>) -> kube::Result<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
