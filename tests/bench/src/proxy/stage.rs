//! The stage: an edge node with kube-proxy's rules, pods that answer at thousands of addresses, and
//! the files that all subjects share.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::scene::{Key, NETWORKS, host};
use ingress_tests::demo::Programs;
use ingress_tests::rig::{EDGE_V4, Options, POD1_V4, POD2_V4, Rig};

/// Where subjects stand.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) rig: Rig,
    /// Directory of the peers that are not Debian's.
    peers: PathBuf,
    /// Another build of Sluice.
    other: Option<PathBuf>,
}

impl Stage {
    pub(super) fn set(programs: &Programs, peers: &Path, other: Option<&Path>) -> Result<Self> {
        let options = Options {
            services: 0,
            has_rules: true,
            origin: programs.origin.clone(),
            sluice: programs.sluice.clone(),
        };
        Self::set_on(Rig::build(options)?, peers, other)
    }

    /// Likewise, on this rig.
    pub(super) fn set_on(rig: Rig, peers: &Path, other: Option<&Path>) -> Result<Self> {
        for (network, pod, address) in [
            (NETWORKS[0], &rig.pod1, POD1_V4),
            (NETWORKS[1], &rig.pod2, POD2_V4),
        ] {
            rig.edge.ip(&format!(
                "route add {network}.0.0/16 via {address} onlink dev {}",
                device(pod.name())
            ))?;
            pod.ip(&format!("route add local {network}.0.0/16 dev lo"))?;
        }
        rig.calm()?;
        let stage = Self {
            rig,
            peers: peers.to_owned(),
            other: other.map(Path::to_owned),
        };
        stage.write_certificates()?;
        fs::write(stage.names(), format!("{EDGE_V4} {}\n", host(0)))?;
        Ok(stage)
    }

    /// Path of a peer that is not Debian's.
    pub(super) fn program(&self, name: &str) -> Result<String> {
        let program = self.peers.join(name);
        ensure!(program.is_file(), "{} is not there", program.display());
        Ok(program.display().to_string())
    }

    /// Path of the other build of Sluice.
    pub(super) fn other(&self) -> Result<String> {
        let other = self.other.as_ref();
        let other = other.context("there is no other build of Sluice")?;
        Ok(other.display().to_string())
    }

    /// Chain and key of a certificate for all hosts.
    pub(super) fn certificate(&self, key: Key) -> (PathBuf, PathBuf) {
        let file = |ending: &str| self.rig.path(&format!("{}.{ending}", key.name()));
        (file("crt"), file("key"))
    }

    /// A `/etc/hosts` that knows the first host.
    pub(super) fn names(&self) -> PathBuf {
        self.rig.path("hosts")
    }

    fn write_certificates(&self) -> Result<()> {
        for (key, algorithm) in [
            (Key::P256, &rcgen::PKCS_ECDSA_P256_SHA256),
            (Key::Rsa2048, &rcgen::PKCS_RSA_SHA256),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm)?;
            let names = vec!["*.bench.test".to_owned()];
            let certificate = rcgen::CertificateParams::new(names)?.self_signed(&pair)?;
            let (chain_file, key_file) = self.certificate(key);
            fs::write(&chain_file, certificate.pem())?;
            fs::write(&key_file, pair.serialize_pem())?;
            // HAProxy's format, and where it looks for it.
            let both = certificate.pem() + &pair.serialize_pem();
            fs::write(self.rig.path(&format!("{}.pem", key.name())), both)?;
        }
        Ok(())
    }
}

/// The edge node's device of a pod is named like the pod.
fn device(host: &str) -> &str {
    host.rsplit('-').next().unwrap_or(host)
}
