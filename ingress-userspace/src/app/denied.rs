//! The networks that are denied: by the administrator, for a time, and by `block-cidrs`, where it
//! applies to all that this node serves.
//!
//! Each list goes to two places: to the programs, for packets that come by uplinks, and to the
//! acceptors of the workers, for connections that come another way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ingress_core::deny::{DenyList, blocked_everywhere, overlap};
use ingress_core::ir::Config;
use ipnet::IpNet;
use tracing::{info, warn};

use super::helper::Datapath;
use crate::admin::{DenyChange, DenyEntry};
use crate::datapath::Denied;

/// The denied networks of this node.
#[derive(Default)]
pub(super) struct DeniedNetworks {
    /// What the administrator asked for, with its end (`CLOCK_MONOTONIC`).
    asked: BTreeMap<IpNet, Option<Duration>>,
    /// What the configuration blocks, as it was read last.
    blocked: Vec<IpNet>,
    read: Option<Arc<Config>>,
    /// Networks of proxies that speak for clients. A client behind one of these is judged by its
    /// requests.
    spared: Vec<IpNet>,
    acceptors: Arc<ArcSwap<DenyList>>,
    /// What is in force.
    applied: Vec<Denied>,
}

impl DeniedNetworks {
    /// Denies nobody; never what these networks have of `block-cidrs`.
    pub(super) fn sparing(spared: Vec<IpNet>) -> Self {
        Self {
            spared,
            ..Self::default()
        }
    }

    /// The list that acceptors ask.
    pub(super) fn acceptors(&self) -> Arc<ArcSwap<DenyList>> {
        Arc::clone(&self.acceptors)
    }

    /// Makes a change of the administrator, and tells what is denied after it.
    pub(super) fn change(&mut self, change: DenyChange) -> Vec<DenyEntry> {
        let now = now();
        match change {
            DenyChange::None => {}
            DenyChange::Add { network, seconds } => {
                let until = seconds.map(|seconds| now + Duration::from_secs(seconds));
                info!(%network, seconds, "denied by the administrator");
                self.asked.insert(network.trunc(), until);
            }
            DenyChange::Remove { network } => {
                info!(%network, "no longer denied by the administrator");
                self.asked.remove(&network.trunc());
            }
        }
        self.forget_expired(now);
        let asked = self.asked.iter().map(|(network, until)| DenyEntry {
            network: *network,
            source: "admin",
            seconds_left: until.map(|until| until.saturating_sub(now).as_secs()),
        });
        let blocked = self.blocked.iter().map(|network| DenyEntry {
            network: *network,
            source: "block-cidrs",
            seconds_left: None,
        });
        asked.chain(blocked).collect()
    }

    /// Number of networks that the administrator denies, and that the configuration blocks.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.asked.len(), self.blocked.len())
    }

    /// Whether time alone can change the list.
    pub(super) fn is_expiring(&self) -> bool {
        self.asked.values().any(Option::is_some)
    }

    /// Puts the list in force, if it is another than before.
    pub(super) fn apply(&mut self, config: &Arc<Config>, datapath: Option<&Datapath>) {
        self.read(config);
        self.forget_expired(now());
        let wanted = self.denied();
        if wanted == self.applied {
            return;
        }
        let networks = wanted.iter().map(|denied| denied.network);
        self.acceptors.store(Arc::new(DenyList::new(networks)));
        match datapath.map(|datapath| datapath.set_denied(&wanted)) {
            None | Some(Ok(0)) => {}
            Some(Ok(left)) => warn!(left, "the guard has no room for more denied networks"),
            Some(Err(error)) => {
                // What is not applied is tried again at the next change.
                let error = format!("{error:#}");
                return warn!(error, "failed to deny networks in the guard");
            }
        }
        self.applied = wanted;
    }

    /// Has the list be written anew, to programs that know nothing.
    pub(super) fn forget_applied(&mut self) {
        self.applied = Vec::new();
    }

    fn read(&mut self, config: &Arc<Config>) {
        if let Some(read) = &self.read
            && Arc::ptr_eq(read, config)
        {
            return;
        }
        let spared = |network: &IpNet| self.spared.iter().any(|one| overlap(one, network));
        let mut blocked = blocked_everywhere(config);
        blocked.retain(|network| !spared(network));
        self.blocked = blocked;
        self.read = Some(Arc::clone(config));
    }

    fn forget_expired(&mut self, now: Duration) {
        let is_in_force = |until: &Option<Duration>| until.is_none_or(|until| until > now);
        self.asked.retain(|_, until| is_in_force(until));
    }

    fn denied(&self) -> Vec<Denied> {
        let mut denied: BTreeMap<IpNet, u64> =
            self.blocked.iter().map(|network| (*network, 0)).collect();
        for (network, until) in &self.asked {
            let until_ns = until.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(0));
            denied.entry(*network).or_insert(until_ns);
        }
        let denied = denied.into_iter();
        denied
            .map(|(network, until_ns)| Denied { network, until_ns })
            .collect()
    }
}

/// `CLOCK_MONOTONIC`, by which programs judge the end of an entry. By libc: rustix looks for the vDSO
/// itself, and does not find it under valgrind.
fn now() -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a value of the type that the call writes. It fails for no known clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(network: &str, seconds: Option<u64>) -> DenyChange {
        let network = network.parse().unwrap();
        DenyChange::Add { network, seconds }
    }

    #[test]
    fn denied_network_is_listed_and_in_force_until_it_is_removed() {
        let mut denied = DeniedNetworks::default();
        let config = Arc::default();
        denied.change(add("192.0.2.7/24", None));
        denied.apply(&config, None);
        let at = "192.0.2.9".parse().unwrap();
        assert!(denied.acceptors().load().contains(at));
        assert!(!denied.is_expiring());
        let network = "192.0.2.0/24".parse().unwrap();
        assert_eq!(denied.change(DenyChange::None)[0].network, network);
        assert!(denied.change(DenyChange::Remove { network }).is_empty());
        denied.apply(&config, None);
        assert!(!denied.acceptors().load().contains(at));
    }

    #[test]
    fn entry_ends_with_its_time() {
        let mut denied = DeniedNetworks::default();
        let entries = denied.change(add("2001:db8::/32", Some(600)));
        assert!(entries[0].seconds_left.unwrap() > 590);
        assert!(denied.is_expiring());
        denied.forget_expired(now() + Duration::from_secs(601));
        assert!(denied.change(DenyChange::None).is_empty());
    }
}
