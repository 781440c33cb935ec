//! Decides what is written to the API server, from the flags.

use kube::Client;

use crate::control::{Addresses, Candidate, Reporter, ReporterSettings};
use crate::settings::Run;

/// The reporter, if this daemon is to write anything.
pub(super) fn start(flags: &Run, client: &Client) -> Option<Reporter> {
    let kubernetes = &flags.kubernetes;
    if !kubernetes.update_status {
        return None;
    }
    let namespace = kubernetes.pod_namespace.clone();
    let host_name = || {
        let uname = rustix::system::uname();
        let host_name = uname.nodename().to_string_lossy();
        format!("{host_name}-{}", std::process::id())
    };
    let settings = ReporterSettings {
        candidate: Candidate {
            namespace: namespace.unwrap_or_else(|| client.default_namespace().to_owned()),
            lease: kubernetes.election_id.clone(),
            identity: kubernetes.pod_name.clone().unwrap_or_else(host_name),
            ttl: std::time::Duration::from_secs(kubernetes.election_ttl.into()),
        },
        addresses: addresses(flags),
        controller: flags.meaning.controller_class.clone(),
        pod_name: kubernetes.pod_name.clone(),
    };
    Some(Reporter::start(client.clone(), settings))
}

fn addresses(flags: &Run) -> Addresses {
    let kubernetes = &flags.kubernetes;
    if let Some((namespace, name)) = &kubernetes.publish_service {
        return Addresses::OfService(namespace.clone(), name.clone());
    }
    if !kubernetes.publish_status_addresses.is_empty() {
        return Addresses::Fixed(kubernetes.publish_status_addresses.clone());
    }
    Addresses::OfNodes {
        internal: kubernetes.report_node_internal_ip_address,
    }
}
