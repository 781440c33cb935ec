//! The endpoints that the real controllers write for a Service: later than a Deployment says that its
//! pods are ready.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use super::control::ControlPlane;
use crate::rig::wait_until;

impl ControlPlane {
    /// Addresses of the endpoints of a Service that are ready, of `IPv4` or `IPv6`.
    pub fn ready_endpoints(
        &self,
        namespace: &str,
        service: &str,
        family: &str,
    ) -> Result<BTreeSet<String>> {
        let slices = self.kubectl(&[
            "get",
            "endpointslices",
            &format!("--namespace={namespace}"),
            &format!("--selector=kubernetes.io/service-name={service}"),
            "--output=json",
        ])?;
        let slices: Value = serde_json::from_str(&slices)?;
        let slices = slices["items"].as_array().cloned().unwrap_or_default();
        let of_family = slices.iter().filter(|slice| slice["addressType"] == family);
        let endpoints =
            of_family.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        Ok(ready
            .filter_map(|endpoint| endpoint["addresses"][0].as_str())
            .map(str::to_owned)
            .collect())
    }

    /// Waits until a Service has that many ready endpoints in each of these families.
    pub fn wait_for_endpoints(
        &self,
        namespace: &str,
        service: &str,
        families: &[&str],
        count: usize,
    ) -> Result<()> {
        for family in families {
            wait_until(&format!("{count} endpoints of {service}, {family}"), || {
                Ok(self.ready_endpoints(namespace, service, family)?.len() == count)
            })?;
        }
        Ok(())
    }
}
