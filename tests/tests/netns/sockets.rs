//! What decides about a packet is the socket that it is for, not its port.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingress_tests::curl::Request;
use ingress_tests::rig::{EDGE_V4, EDGE_V6, FAR_V4, POD1_V4};
use ingress_userspace::datapath::Namespace;

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn path_mtu_discovery_works_for_a_connection_masqueraded_to_a_port_of_ours() -> Result<()> {
    let scene = Scene::set()?;
    let edge = &scene.rig.edge;
    // kube-proxy and CNIs take random ports from 1024 on, ours among them.
    edge.sh(&format!(
        "iptables -t nat -I POSTROUTING -s {POD1_V4} -o eth0 -p tcp --dport 7 \
         -j MASQUERADE --to-ports 61000-61003"
    ))?;
    let listener = scene.rig.far.run(|| TcpListener::bind((FAR_V4, 7)))??;
    let server = std::thread::spawn(move || -> std::io::Result<(usize, u16)> {
        let (mut stream, peer) = listener.accept()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok((bytes.len(), peer.port()))
    });
    let mut stream = scene.rig.pod1.run(|| TcpStream::connect((FAR_V4, 7)))??;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Full segments, which the router before the server refuses until their sender has learned.
    stream.write_all(&vec![b'm'; LARGE])?;
    drop(stream);
    let (received, port) = server.join().ok().context("the server panicked")??;
    assert!((61_000..=61_003).contains(&port), "{port}");
    assert_eq!(received, LARGE);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_that_begins_with_a_syn_cookie_is_served() -> Result<()> {
    let scene = Scene::set()?;
    let ingress = Namespace::open(&format!("{}-in-sluice", scene.rig.prefix))?;
    // 2: every SYN is answered by a cookie, as in a flood.
    ingress.run(|| fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2"))??;
    for url in [format!("http://{EDGE_V4}/"), format!("http://[{EDGE_V6}]/")] {
        for _ in 0..4 {
            let response = Request::get(&url, "near.test").send(&scene.rig.client)?;
            assert_eq!(response.status, 200, "{url}");
        }
    }
    assert_eq!(scene.sluice.requests("netns")?, 8);
    let counters = ingress.run(|| fs::read_to_string("/proc/thread-self/net/netstat"))??;
    assert!(cookies_received(&counters)? >= 8, "{counters}");
    Ok(())
}

/// `SyncookiesRecv` of `/proc/net/netstat`, which has a line of names before one of numbers.
fn cookies_received(counters: &str) -> Result<u64> {
    let mut lines = counters.lines();
    let names = lines.next().context("no names")?.split_whitespace();
    let numbers = lines.next().context("no numbers")?.split_whitespace();
    let cell = names
        .zip(numbers)
        .find(|(name, _)| *name == "SyncookiesRecv");
    Ok(cell.context("no such counter")?.1.parse()?)
}

const LARGE: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);
