//! The scenarios of `ingress-controller-conformance` (Kubernetes SIG Network), on the real cluster.
//!
//! Where the suite itself can't be had, its scenarios stand in for it: the same Ingress objects, the
//! same requests, the same assertions. [`ADAPTATIONS`] lists what is run differently, and why.

mod check;
mod feature;
mod suite;

pub use check::check;
pub use feature::Feature;
pub use suite::{IngressSpec, Request, Suite};

/// What is run differently from the suite, each with its reason.
pub const ADAPTATIONS: [&str; 8] = [
    "the suite's module, sigs.k8s.io/ingress-controller-conformance, is answered with status 403 \
     (`This module version is not available`) by proxy.golang.org for its version list and for every \
     commit tried (d672e9f5, f84ea2a1, 2dbcddf9), under its GitHub name too: its scenarios stand in \
     for it, from tests/data/ingress-conformance.json (the suite at f91a7996)",
    "the echo server is the rig's own: it reports the same fields, of the same environment variables, \
     at the same port",
    "requests are curl's under the name of the suite's Go client, from a client outside of the \
     cluster's nodes",
    "the scenarios of a feature share a namespace and an Ingress, which are removed before the next \
     feature's",
    "Ingresses without a class get the cluster's default class: Sluice's IngressClass is annotated so",
    "a certificate is verified against the self-signed one that was given, not only by its name",
    "a feature's requests begin when its endpoints have arrived: a Deployment is ready before them",
    "an address that must not come is not waited for in vain: an Ingress that came later has one",
];
