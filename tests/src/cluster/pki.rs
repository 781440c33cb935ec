//! The cluster's own certificates: one authority, servers, and users by common name and group.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Signs everything that the cluster trusts; keeps its files in one directory.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// Paths of a certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The certificate.
    pub(super) certificate: PathBuf,
    /// Its key.
    pub(super) key: PathBuf,
}

impl Authority {
    /// Makes a new authority.
    pub(super) fn create(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "rig");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self {
            issuer,
            directory: directory.to_owned(),
        };
        fs::write(authority.certificate(), authority.issuer.pem())?;
        Ok(authority)
    }

    /// Path of its certificate.
    pub(super) fn certificate(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// A server with these DNS names and addresses.
    pub(super) fn server(&self, name: &str, alternatives: &[&str]) -> Result<Identity> {
        let names: Vec<String> = alternatives.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(name, params)
    }

    /// A user, as the API server reads one from a certificate: common name and organisation.
    pub(super) fn user(&self, file: &str, name: &str, group: Option<&str>) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, params)
    }

    /// A key that signs the tokens of service accounts; in place of a certificate the public key.
    pub(super) fn token_key(&self) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let identity = self.identity("service-account", "pub");
        fs::write(&identity.certificate, key.public_key_pem())?;
        fs::write(&identity.key, key.serialize_pem())?;
        Ok(identity)
    }

    fn sign(&self, file: &str, mut params: CertificateParams) -> Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let identity = self.identity(file, "crt");
        fs::write(&identity.certificate, certificate.pem())?;
        fs::write(&identity.key, key.serialize_pem())?;
        Ok(identity)
    }

    /// Where the files of an identity are.
    pub(super) fn identity(&self, file: &str, extension: &str) -> Identity {
        Identity {
            certificate: self.directory.join(format!("{file}.{extension}")),
            key: self.directory.join(format!("{file}.key")),
        }
    }
}
