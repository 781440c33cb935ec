//! The cluster itself: a control plane that is real and quick to start, pods that live as a kubelet
//! would have them live, and nothing left behind.

mod cluster {
    mod cert_manager;
    mod plugin;
    mod pods;
    mod view;
}

use std::time::{Duration, Instant};

use anyhow::Result;
use ingress_tests::cluster::control::{Audit, ControlPlane, Options, Place};
use ingress_tests::cluster::programs::Programs;
use ingress_tests::rig::wait_until;

#[test]
#[ignore = "needs root: network namespaces"]
fn control_plane_starts_serves_and_leaves_nothing() -> Result<()> {
    let start = Instant::now();
    let plane = ControlPlane::start(&options("start"))?;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    let services = plane.kubectl(&["get", "services", "--output=name"])?;
    assert_eq!(services, "service/kubernetes\n");
    plane.stop_api();
    let version = || plane.driver().block_on(plane.client().apiserver_version());
    assert!(version().is_err());
    plane.start_api()?;
    assert_eq!(version()?.minor, "36");
    let directory = plane.directory().to_owned();
    drop(plane);
    assert!(!directory.exists());
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_token_may_do_what_its_service_account_may() -> Result<()> {
    let plane = ControlPlane::start(&options("token"))?;
    let token = plane.service_account_token("default", "default")?;
    let kubeconfig = plane.kubeconfig_for_token("default", Place::Machine, &token)?;
    let ask = || {
        let mut kubectl = plane.kubectl_command()?;
        kubectl.env("KUBECONFIG", &kubeconfig);
        Ok::<_, anyhow::Error>(kubectl.args(["get", "services", "-o", "name"]).output()?)
    };
    let refused = String::from_utf8_lossy(&ask()?.stderr).into_owned();
    assert!(refused.contains("Forbidden"), "{refused}");
    plane.apply(ROLE)?;
    wait_until("the role to be known", || {
        Ok(ask()?.stdout == b"service/kubernetes\n")
    })?;
    let asked = plane.audit_log()?;
    let mut asked = asked
        .lines()
        .filter(|line| line.contains("system:serviceaccount:default:default"));
    assert!(asked.any(|line| line.contains("\"resource\":\"services\"")));
    Ok(())
}

fn options(name: &str) -> Options {
    Options {
        prefix: format!("cp{}{name}", std::process::id()),
        programs: Programs::from_env(),
        audit: Audit::Metadata,
    }
}

const ROLE: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: view, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
";
