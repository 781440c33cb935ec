//! The addresses of Services that are served here although no device has them (`--adopt-service`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ingress_core::adopt::{Adoption, Wanted, adopt};
use ingress_core::diagnostic::Diagnostic;
use ingress_core::ir::Config;
use ingress_core::snapshot::Snapshot;
use tracing::info;

use crate::admin::{AdoptedService, FrontendStatus};
use crate::settings::Run;

/// The Services that flags name, and those of their addresses that are adopted.
pub(super) struct Adopted {
    wanted: Wanted,
    adoption: Adoption,
}

impl Adopted {
    /// Nothing is adopted yet.
    pub(super) fn new(flags: &Run) -> Self {
        let services = flags.kubernetes.adopted_services.iter().cloned();
        Self {
            wanted: Wanted {
                services: services.collect(),
                http_and_https: [flags.http_port, flags.https_port],
                ..Wanted::default()
            },
            adoption: Adoption::default(),
        }
    }

    /// Decides again. Returns true if the diagnostics have changed.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, config: &Config) -> bool {
        if self.wanted.services.is_empty() {
            return false;
        }
        let services = config.tcp_services.keys().copied();
        self.wanted.tcp = services.chain(self.wanted.http_and_https).collect();
        self.wanted.udp = config.udp_services.keys().copied().collect();
        let adoption = adopt(snapshot, &self.wanted);
        let before = std::mem::replace(&mut self.adoption, adoption);
        let now = &self.adoption;
        for (frontend, service) in &now.frontends {
            if !before.frontends.contains_key(frontend) {
                info!(%frontend, %service, "address adopted");
            }
        }
        for (frontend, service) in &before.frontends {
            if !now.frontends.contains_key(frontend) {
                info!(%frontend, %service, "address no longer adopted");
            }
        }
        before.diagnostics != now.diagnostics
    }

    /// The destinations to steer.
    pub(super) fn frontends(&self) -> BTreeSet<SocketAddr> {
        self.adoption.frontends.keys().copied().collect()
    }

    /// One for each address and port that is not adopted, with the reason.
    pub(super) fn diagnostics(&self) -> &[Diagnostic] {
        &self.adoption.diagnostics
    }

    /// The addresses, for `sluice status`.
    pub(super) fn status(&self, is_steered: bool) -> Vec<FrontendStatus> {
        let mut addresses: BTreeMap<(IpAddr, String), Vec<u16>> = BTreeMap::new();
        for (frontend, service) in &self.adoption.frontends {
            let address = (frontend.ip(), service.to_string());
            addresses.entry(address).or_default().push(frontend.port());
        }
        let status = |((address, given_by), ports)| FrontendStatus {
            address,
            ports,
            given_by,
            is_steered,
        };
        addresses.into_iter().map(status).collect()
    }

    /// The Services, for the metrics.
    pub(super) fn services(&self) -> Vec<AdoptedService> {
        let count = |(namespace, name): &(String, String)| {
            let is_of = |object: &ingress_core::ir::ObjectRef| {
                *object.namespace == **namespace && *object.name == **name
            };
            let frontends = self.adoption.frontends.values();
            let problems = self.adoption.diagnostics.iter();
            AdoptedService {
                namespace: namespace.clone(),
                name: name.clone(),
                frontends: frontends.filter(|service| is_of(service)).count(),
                problems: problems.filter(|one| is_of(&one.object)).count(),
            }
        };
        self.wanted.services.iter().map(count).collect()
    }
}
