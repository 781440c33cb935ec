//! Flags about certificates by ACME.

use clap::Args;
use ingress_core::acme::Limits;
use ingress_core::ir::ObjectRef;

use super::Run;
use crate::acme::STATE;

/// Bounds of orders at ACME issuers.
#[derive(Clone, Debug, Args)]
pub struct Acme {
    /// Orders at one issuer in any hour; one namespace gets at most half of them.
    #[arg(long, env = "SLUICE_ACME_ORDERS_PER_HOUR", value_name = "NUMBER", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub acme_orders_per_hour: u32,

    /// Seconds after the first failed order of a certificate until the next; they double with each
    /// further one, up to a day.
    #[arg(long, env = "SLUICE_ACME_RETRY", value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(i64).range(1..=86_400))]
    pub acme_retry: i64,
}

impl Acme {
    /// The bounds.
    pub fn limits(&self) -> Limits {
        Limits {
            orders_per_hour: self.acme_orders_per_hour,
            first_retry: self.acme_retry,
        }
    }
}

impl Run {
    /// The Secret for challenges and the state of orders, if there is an issuer.
    pub(super) fn acme_state(&self) -> Option<ObjectRef> {
        (!self.meaning.acme_issuers.is_empty()).then(|| ObjectRef {
            kind: "Secret",
            namespace: self.kubernetes.namespace().into(),
            name: STATE.into(),
        })
    }
}
