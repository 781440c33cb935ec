//! Programs of others on the same devices: they see every packet that is left to the host, and
//! nobody displaces them.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::Result;
use ingress_tests::curl::Request;
use ingress_tests::host::Host;
use ingress_tests::neighbour::Neighbour;
use ingress_tests::rig::{CLIENT_V4, EDGE_V4, Options, PROXY_V4, Rig, wait_until};
use ingress_userspace::datapath::Namespace;
use socket2::{Domain, Socket, Type};

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_tcx_program_behind_ours_sees_what_we_pass() -> Result<()> {
    let scene = Scene::set()?;
    for (device, sender) in [("eth0", &scene.rig.client), ("pod1", &scene.rig.pod1)] {
        let neighbour = Neighbour::tcx(&scene.rig.edge, device)?;
        sees_what_we_pass(&neighbour, sender)?;
    }
    does_not_see_what_we_steer(&scene, &Neighbour::tcx(&scene.rig.edge, "eth0")?)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_clsact_filter_sees_what_we_pass_however_we_are_attached() -> Result<()> {
    for mode in ["--tc=tcx", "--tc=clsact"] {
        let scene = Scene::set_with(|daemon| daemon.with(mode))?;
        for (device, sender) in [("eth0", &scene.rig.client), ("pod1", &scene.rig.pod1)] {
            let neighbour = Neighbour::clsact(&scene.rig.edge, device, &scene.rig.prefix)?;
            sees_what_we_pass(&neighbour, sender)?;
        }
        let neighbour = Neighbour::clsact(&scene.rig.edge, "sluice0", &scene.rig.prefix)?;
        let ingress = Namespace::open(&format!("{}-in-sluice", scene.rig.prefix))?;
        let socket = ingress.run(|| -> std::io::Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
            socket.set_ip_transparent_v4(true)?;
            socket.bind(
                &SocketAddr::from((
                    EDGE_V4.parse::<Ipv4Addr>().map_err(std::io::Error::other)?,
                    0,
                ))
                .into(),
            )?;
            Ok(socket.into())
        })??;
        // Its device is not steered, so that return_path leaves what is for it to the host.
        socket.send_to(b"through the host", (PROXY_V4, 9))?;
        wait_until("the filter on the gate", || Ok(neighbour.packets()? > 0))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_xdp_program_that_is_there_already_stays_and_sees_everything() -> Result<()> {
    let rig = Rig::build(Options::from_env()?)?;
    let neighbour = Neighbour::xdp(&rig.edge, "eth0")?;
    let scene = Scene::set_on(rig, |daemon| daemon)?;
    let status = scene.sluice.status()?;
    let uplink = &status["datapath"]["devices"][0];
    assert_eq!(uplink["guard"], "off", "{uplink}");
    assert!(uplink["reason"].is_string(), "{uplink}");
    let before = neighbour.packets()?;
    ask(&scene.rig.client)?;
    assert!(neighbour.packets()? > before, "of steered packets too");
    assert_eq!(scene.sluice.requests("netns")?, 1);
    sees_what_we_pass(&neighbour, &scene.rig.client)?;
    let Scene { sluice, rig, .. } = scene;
    sluice.stop()?;
    sees_what_we_pass(&neighbour, &rig.client)
}

/// Datagrams that are none of ours reach the program that comes after us.
fn sees_what_we_pass(neighbour: &Neighbour, sender: &Host) -> Result<()> {
    let before = neighbour.packets()?;
    let socket = sender.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    let mut sent = 0;
    wait_until("the other program to see them", || {
        // While the neighbour is looked for, some of them may be lost.
        socket.send_to(b"none of yours", (EDGE_V4, 9))?;
        sent += 1;
        Ok(sent >= DATAGRAMS && neighbour.packets()? >= before + DATAGRAMS)
    })
}

fn does_not_see_what_we_steer(scene: &Scene, neighbour: &Neighbour) -> Result<()> {
    ask(&scene.rig.client)?;
    let before = neighbour.packets()?;
    let url = format!("http://{EDGE_V4}/bytes/200000");
    Request::get(&url, "near.test").send(&scene.rig.client)?;
    // The client's acknowledgements alone are more than that; others on the link may speak too.
    assert!(neighbour.packets()? < before + DATAGRAMS);
    Ok(())
}

fn ask(client: &Host) -> Result<()> {
    let response = Request::get(&format!("http://{EDGE_V4}/"), "near.test").send(client)?;
    assert_eq!(response.client_address()?, CLIENT_V4);
    Ok(())
}

const DATAGRAMS: u64 = 20;
