//! Flags about the Kubernetes API server.

use std::path::PathBuf;

use clap::Args;

/// How to reach the API server.
#[derive(Clone, Debug, Default, Args)]
pub struct ApiServer {
    /// Kubeconfig of the API server [default: the pod's service account, else $KUBECONFIG, else
    /// ~/.kube/config].
    #[arg(long, env = "SLUICE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current one].
    #[arg(long, env = "SLUICE_KUBE_CONTEXT", value_name = "NAME")]
    pub kube_context: Option<String>,

    /// Namespace whose objects count; may be given more than once [default: all].
    #[arg(
        long = "watch-namespace",
        env = "SLUICE_WATCH_NAMESPACE",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,

    /// Labels that a namespace must have for its objects to count.
    #[arg(
        long,
        env = "SLUICE_WATCH_NAMESPACE_SELECTOR",
        value_name = "SELECTOR",
        conflicts_with = "watch_namespaces"
    )]
    pub watch_namespace_selector: Option<String>,
}

/// What to read at the API server and what to write.
#[derive(Clone, Debug, Args)]
pub struct Kubernetes {
    /// How to reach it.
    #[command(flatten)]
    pub api_server: ApiServer,

    /// Prefer endpoints that EndpointSlices hint at for the zone of this node.
    #[arg(long, env = "SLUICE_TOPOLOGY_HINTS", requires = "node_name")]
    pub topology_hints: bool,

    /// Name of the node that this runs on.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Name of the pod that this runs in.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// Namespace of the pod that this runs in: where its Lease is.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub pod_namespace: Option<String>,

    /// Labels of the pods of this ingress, whose nodes' addresses become those of Ingresses.
    #[arg(
        long,
        env = "SLUICE_POD_SELECTOR",
        value_name = "SELECTOR",
        default_value = "app.kubernetes.io/name=sluice"
    )]
    pub pod_selector: String,

    /// Whether the leader writes status.loadBalancer of Ingresses and tells Events.
    #[arg(long, env = "SLUICE_UPDATE_STATUS", value_name = "BOOL",
          default_value_t = true, action = clap::ArgAction::Set)]
    pub update_status: bool,

    /// Address or host name to write as that of Ingresses; may be given more than once [default:
    /// the addresses of the nodes that run a ready pod of this ingress].
    #[arg(
        long = "publish-status-address",
        env = "SLUICE_PUBLISH_STATUS_ADDRESS",
        value_name = "ADDRESS",
        value_delimiter = ',',
        conflicts_with = "publish_service"
    )]
    pub publish_status_addresses: Vec<String>,

    /// Service whose load balancer's addresses are those of Ingresses.
    #[arg(long, env = "SLUICE_PUBLISH_SERVICE", value_name = "NAMESPACE/NAME",
          value_parser = parse_name)]
    pub publish_service: Option<(String, String)>,

    /// Service whose load balancer's addresses are served here; may be given more than once
    /// (docs/one-address.md).
    #[arg(
        long = "adopt-service",
        env = "SLUICE_ADOPT_SERVICE",
        value_name = "NAMESPACE/NAME",
        value_delimiter = ',',
        value_parser = parse_name
    )]
    pub adopted_services: Vec<(String, String)>,

    /// Write nodes' internal addresses even where they have external ones.
    #[arg(long, env = "SLUICE_REPORT_NODE_INTERNAL_IP_ADDRESS")]
    pub report_node_internal_ip_address: bool,

    /// Name of the Lease by which one of all pods becomes the leader.
    #[arg(
        long,
        env = "SLUICE_ELECTION_ID",
        value_name = "NAME",
        default_value = "sluice-leader"
    )]
    pub election_id: String,

    /// Seconds after which the Lease of a leader that is gone may be taken.
    #[arg(long, env = "SLUICE_ELECTION_TTL", value_name = "SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u16).range(3..=3600))]
    pub election_ttl: u16,

    /// File (on a tmpfs: it holds private keys) for the objects served last, from which to serve
    /// when the API server is away at start.
    #[arg(long, env = "SLUICE_LAST_KNOWN_GOOD", value_name = "FILE")]
    pub last_known_good: Option<PathBuf>,
}

impl Kubernetes {
    /// The daemon's own namespace.
    pub fn namespace(&self) -> &str {
        self.pod_namespace.as_deref().unwrap_or("default")
    }
}

fn parse_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("expected NAMESPACE/NAME".into()),
    }
}
