//! A flood of SYNs, which the guard answers by cookies while clients are served.
//!
//! veth devices deliver what XDP sends back only to a far end that has an XDP program too.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ingress_tests::flood::Flood;
use ingress_tests::host::{Host, link_address};
use ingress_tests::neighbour::Neighbour;
use ingress_tests::rig::{CLIENT_V4, CLIENT_V6, EDGE_V4, EDGE_V6, wait_until};

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn clients_are_served_in_a_flood_of_syns_that_allocates_nothing() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--syn-flood-threshold=1000"))?;
    let client = &scene.rig.client;
    let _far_end = Neighbour::xdp(&scene.rig.switch, "edge")?;
    let mac = link_address(&scene.rig.edge, "eth0")?;
    let mut open = connect(client, EDGE_V4)?;
    let quiet = options(&open)?;
    ensure!(
        quiet.scale != 0,
        "a connection of any kind has large windows"
    );
    for (address, source) in [(EDGE_V4, CLIENT_V4), (EDGE_V6, CLIENT_V6)] {
        let target: IpAddr = address.parse()?;
        let flood = Flood::start(client, ("eth0", mac), (target, 80), Some(5000))?;
        wait_until("the guard to answer", || {
            Ok(scene.sluice.packets("guard", "syn_answered")? > 0)
        })?;
        assert_eq!(scene.sluice.status()?["datapath"]["is_flooded"], true);
        // SYNs before the first answer wait for nobody.
        let waiting = half_open(&scene)?;
        let answered = scene.sluice.packets("guard", "syn_answered")?;
        for _ in 0..100 {
            let mut connection = connect(client, address)?;
            assert_eq!(options(&connection)?, quiet, "{address}");
            assert_eq!(ask(&mut connection, "")?, source);
        }
        let mut connection = connect(client, address)?;
        assert_eq!(ask(&mut connection, &"x".repeat(UPLOAD_BYTES))?, source);
        assert_eq!(ask(&mut open, "")?, CLIENT_V4, "open connections go on");
        let sent = flood.stop()?;
        let answers = scene.sluice.packets("guard", "syn_answered")? - answered;
        ensure!(
            answers > 100,
            "{answers} of {sent} were answered by the guard"
        );
        assert!(
            half_open(&scene)? <= waiting,
            "the flood allocates requests"
        );
    }
    wait_until("the end of the flood", || {
        Ok(scene.sluice.status()?["datapath"]["is_flooded"] == false)
    })?;
    let answered = scene.sluice.packets("guard", "syn_answered")?;
    assert_eq!(ask(&mut connect(client, EDGE_V4)?, "")?, CLIENT_V4);
    assert_eq!(scene.sluice.packets("guard", "syn_answered")?, answered);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_source_that_may_not_connect_gets_no_cookie() -> Result<()> {
    let scene = Scene::set_with(|daemon| {
        let daemon = daemon.with("--syn-flood-threshold=1000");
        daemon.with(&format!("--frontend-source-cidr={CLIENT_V4}/32"))
    })?;
    let client = &scene.rig.client;
    let _far_end = Neighbour::xdp(&scene.rig.switch, "edge")?;
    let mac = link_address(&scene.rig.edge, "eth0")?;
    let flood = Flood::start(client, ("eth0", mac), (EDGE_V4.parse()?, 80), Some(5000))?;
    wait_until("the flood to be noticed", || {
        Ok(scene.sluice.status()?["datapath"]["is_flooded"] == true)
    })?;
    let dropped = scene.sluice.packets("steer", "foreign_source")?;
    assert_eq!(ask(&mut connect(client, EDGE_V4)?, "")?, CLIENT_V4);
    // The client's own connection is the only one that was answered.
    assert_eq!(scene.sluice.packets("guard", "syn_answered")?, 1);
    wait_until("more of the flood to be dropped", || {
        Ok(scene.sluice.packets("steer", "foreign_source")? > dropped + 1000)
    })?;
    flood.stop().map(drop)
}

/// What both ends of a connection have agreed on.
#[derive(Debug, PartialEq, Eq)]
struct Agreed {
    /// Timestamps, selective acknowledgements, and whether windows are scaled (`tcpi_options`).
    options: u8,
    /// The shift of the windows of the server.
    scale: u8,
}

fn options(connection: &TcpStream) -> Result<Agreed> {
    // SAFETY: all zeros is a value of this struct of integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info))?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is as large, and the
    // descriptor is open.
    let result = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(Agreed {
        options: info.tcpi_options,
        scale: info.tcpi_snd_rcv_wscale & 0x0f,
    })
}

fn connect(client: &Host, address: &str) -> Result<TcpStream> {
    let address: IpAddr = address.parse()?;
    let connect = || TcpStream::connect_timeout(&(address, 80).into(), PATIENCE);
    let stream = client.run(connect)?.context("failed to connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a body to a pod; gives the client's address as the pod was told it.
fn ask(connection: &mut TcpStream, body: &str) -> Result<String> {
    let (start, length) = (Instant::now(), body.len());
    let request = format!("POST / HTTP/1.1\r\nHost: near.test\r\nContent-Length: {length}\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    connection.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        ensure!(start.elapsed() < PATIENCE, "no answer");
        let mut chunk = [0; 4096];
        let read = connection.read(&mut chunk)?;
        ensure!(read > 0, "the connection ended early");
        answer.extend_from_slice(&chunk[..read]);
    }
    let answer = String::from_utf8(answer)?;
    let (head, report) = answer.split_once("\r\n\r\n").context("no head")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    let report: serde_json::Value = serde_json::from_str(report)?;
    assert_eq!(report["body_bytes"], length);
    let told = report["headers"]["x-forwarded-for"].as_str();
    Ok(told.context("no client address")?.to_owned())
}

/// Connections that the listeners of the ingress netns know only the SYN of.
fn half_open(scene: &Scene) -> Result<usize> {
    let netns = scene.daemon.arguments().iter();
    let mut netns = netns.filter_map(|argument| argument.strip_prefix("--ingress-netns="));
    let netns = netns
        .next_back()
        .context("the daemon has no ingress netns")?;
    let listed = scene
        .rig
        .edge
        .sh(&format!("ip netns exec {netns} ss -tanH state syn-recv"))?;
    Ok(listed.lines().count())
}

const UPLOAD_BYTES: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
