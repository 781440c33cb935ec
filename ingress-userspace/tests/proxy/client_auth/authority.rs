//! Authorities and what they sign: certificates of clients and revocation lists.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

/// An authority of a test.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let parameters = Self::parameters(name);
        let pem = parameters.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(parameters, key);
        Self { pem, issuer }
    }

    /// One that this one vouches for.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let parameters = Self::parameters(name);
        let pem = parameters.signed_by(&key, &self.issuer).unwrap().pem();
        let issuer = Issuer::new(parameters, key);
        Self { pem, issuer }
    }

    fn parameters(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters
    }

    /// The files of a client, whose chain has these intermediates.
    pub(crate) fn client(
        &self,
        change: impl FnOnce(&mut CertificateParams),
        chain: &[&Self],
    ) -> Files {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        let name = &mut parameters.distinguished_name;
        name.push(DnType::OrganizationName, "Shop, Inc.");
        name.push(DnType::CommonName, "ada");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.serial_number = Some(SerialNumber::from(SERIAL));
        change(&mut parameters);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let mut pem = certificate.pem();
        pem.extend(chain.iter().map(|one| one.pem.as_str()));
        Files::new(&pem, &key.serialize_pem())
    }

    /// A revocation list.
    pub(crate) fn revocations(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let parameters = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(3000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        parameters.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

pub(crate) const SERIAL: u64 = 4711;

/// Certificate and key where curl finds them, until this is dropped.
pub(crate) struct Files {
    _directory: tempfile::TempDir,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    pub(crate) fn new(chain: &str, key: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        Self {
            chain: path("chain.pem", chain),
            key: path("key.pem", key),
            _directory: directory,
        }
    }
}
