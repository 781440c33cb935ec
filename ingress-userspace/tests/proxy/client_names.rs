//! Mutual TLS by name: of all whom an authority vouches for, a host takes some.

use ingress_core::ir::VerifyMode;
use rcgen::{CertificateParams, DnType};

use crate::client_auth::{Authority, asking, get, one_host};
use crate::rig::{Origin, Proxy};

#[test]
fn clients_of_other_names_are_refused() {
    let authority = Authority::root("authority");
    let named = |organization: &'static str, name: &'static str| {
        let change = move |parameters: &mut CertificateParams| {
            let subject = &mut parameters.distinguished_name;
            subject.push(DnType::OrganizationName, organization);
            subject.push(DnType::CommonName, name);
        };
        authority.client(change, &[])
    };
    let ada = named("Shop", "ada");
    let others = [
        named("Shop", "adam"),
        named("CN=ada", "bob"),
        named("Shop", "x CN=ada"),
    ];
    let origin = Origin::echo("origin");
    for mode in [VerifyMode::Required, VerifyMode::Optional] {
        let mut auth = asking(mode, &authority.pem, None);
        auth.common_name = Some("CN=ada$".parse().unwrap());
        let proxy = Proxy::start(one_host(&origin, &auth));
        let (status, body) = get(&proxy, Some(&ada));
        assert_eq!(status, "200", "{body}");
        for other in &others {
            let (status, body) = get(&proxy, Some(other));
            assert_eq!((&*status, &*body), ("403", "403 forbidden\n"), "{mode:?}");
        }
        let nobody = match mode {
            VerifyMode::Required => "400",
            VerifyMode::Optional | VerifyMode::OptionalNoCa => "403",
        };
        assert_eq!(get(&proxy, None).0, nobody);
        assert_eq!(proxy.snapshot().client_certificate_refusals, 4);
    }
}
