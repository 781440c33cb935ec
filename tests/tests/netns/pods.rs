//! Pods of the node as clients: the policies of the host are in force for them, and they are
//! served.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::host::Host;
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::{EDGE_V4, Options, POD3_V4, Rig, wait_until};

use crate::{Scene, near_and_far};

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_policy_of_the_host_is_in_force_for_pods_behind_steered_devices() -> Result<()> {
    let scene = Scene::set()?;
    let (edge, pod) = (&scene.rig.edge, &scene.rig.pod1);
    ask(pod, "far.test")?;
    assert_eq!(scene.sluice.requests("host")?, 1, "by the host's listener");
    assert_eq!(scene.sluice.requests("netns")?, 0);
    assert!(scene.sluice.packets("steer", "pod_client")? > 0);
    edge.sh("iptables -I INPUT -i pod1 -p tcp --dport 80 -j REJECT --reject-with tcp-reset")?;
    assert!(
        ask(pod, "far.test").is_err(),
        "what egress policies come to"
    );
    // It is an endpoint as before.
    let steered = scene.sluice.packets("steer", "upstream")?;
    for _ in 0..4 {
        ask(&scene.rig.client, "near.test")?;
    }
    assert!(scene.sluice.packets("steer", "upstream")? > steered);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn pods_are_steered_past_the_host_where_that_is_asked_for() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--steer-pod-clients"))?;
    ask(&scene.rig.pod1, "far.test")?;
    assert_eq!(scene.sluice.requests("netns")?, 1);
    let reject = "iptables -I INPUT -i pod1 -p tcp --dport 80 -j REJECT";
    scene.rig.edge.sh(reject)?;
    ask(&scene.rig.pod1, "far.test")
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_pods_connection_goes_on_when_its_device_is_steered_later() -> Result<()> {
    for (flag, datapath) in [("--tc=auto", "host"), ("--steer-pod-clients", "netns")] {
        let rig = Rig::build(Options::from_env()?)?;
        let scene = Scene::serve(
            rig,
            &Manifest::default().serve("far.test", &[POD3_V4]),
            |it| it.with(flag),
        )?;
        let pod = &scene.rig.pod1;
        let mut stream = pod.run(|| TcpStream::connect((EDGE_V4, 80)))??;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        ask_over(&mut stream)?;
        near_and_far().save(&scene.manifests)?;
        wait_until("the pod to be an endpoint", || {
            let status = scene.sluice.status()?;
            let devices = status["datapath"]["devices"].as_array().cloned();
            let mut devices = devices.unwrap_or_default().into_iter();
            Ok(devices.any(|device| device["name"] == "pod1"))
        })?;
        ask_over(&mut stream)?;
        assert_eq!(scene.sluice.requests("host")?, 2);
        let before = scene.sluice.requests(datapath)?;
        ask(pod, "far.test")?;
        assert_eq!(scene.sluice.requests(datapath)?, before + 1, "{flag}");
        ask_over(&mut stream)?;
    }
    Ok(())
}

fn ask(sender: &Host, name: &str) -> Result<()> {
    let response = Request::get(&format!("http://{EDGE_V4}/"), name).send(sender)?;
    ensure!(response.status == 200, "{}", response.status);
    Ok(())
}

fn ask_over(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET /bytes/4 HTTP/1.1\r\nHost: far.test\r\n\r\n")?;
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer)?;
    ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "no answer");
    Ok(())
}
