//! Manifests for tests: one Ingress for each host, with the endpoints that are wanted.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

/// A set of Ingresses with their Services.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    text: String,
}

impl Manifest {
    /// Serves every path of `host` by these addresses, at the port of the rig's pods.
    #[must_use]
    pub fn serve(self, host: &str, addresses: &[&str]) -> Self {
        self.serve_at(host, addresses, crate::rig::POD_PORT)
    }

    /// Serves every path of `host` by these addresses, at `port`.
    #[must_use]
    pub fn serve_at(mut self, host: &str, addresses: &[&str], port: u16) -> Self {
        let name = host.replace('.', "-");
        let _ = write!(
            self.text,
            "---\n\
             apiVersion: networking.k8s.io/v1\n\
             kind: Ingress\n\
             metadata: {{name: {name}}}\n\
             spec:\n\
             \x20 rules:\n\
             \x20 - host: {host}\n\
             \x20   http:\n\
             \x20     paths:\n\
             \x20     - path: /\n\
             \x20       pathType: Prefix\n\
             \x20       backend: {{service: {{name: {name}, port: {{number: 80}}}}}}\n\
             ---\n\
             apiVersion: v1\n\
             kind: Service\n\
             metadata: {{name: {name}}}\n\
             spec: {{ports: [{{name: http, port: 80, targetPort: {port}}}]}}\n"
        );
        for family in ["IPv4", "IPv6"] {
            let is_v6 = family == "IPv6";
            let of_family = addresses
                .iter()
                .filter(|address| address.contains(':') == is_v6);
            let endpoints: Vec<String> = of_family
                .map(|address| format!("{{addresses: [\"{address}\"]}}"))
                .collect();
            let _ = write!(
                self.text,
                "---\n\
                 apiVersion: discovery.k8s.io/v1\n\
                 kind: EndpointSlice\n\
                 metadata: {{name: {name}-{family}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
                 addressType: {family}\n\
                 ports: [{{name: http, port: {port}}}]\n\
                 endpoints: [{}]\n",
                endpoints.join(", ")
            );
        }
        self
    }

    /// Adds an annotation of ingress-nginx, `key: value`, to the Ingress of `host`.
    #[must_use]
    pub fn annotated(mut self, host: &str, annotation: &str) -> Self {
        let metadata = format!(
            "kind: Ingress\nmetadata: {{name: {}",
            host.replace('.', "-")
        );
        let annotations = format!("annotations: {{nginx.ingress.kubernetes.io/{annotation}}}");
        self.text = (self.text).replace(
            &format!("{metadata}}}"),
            &format!("{metadata}, {annotations}}}"),
        );
        self
    }

    /// The same with further objects.
    #[must_use]
    pub fn with(mut self, objects: &str) -> Self {
        let _ = write!(self.text, "---\n{objects}\n");
        self
    }

    /// Saves it as an editor would: a new file that takes the old one's place.
    pub fn save(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        let temporary = directory.join(".rig.yaml.new");
        fs::write(&temporary, &self.text)?;
        fs::rename(temporary, directory.join("rig.yaml"))?;
        Ok(())
    }
}
