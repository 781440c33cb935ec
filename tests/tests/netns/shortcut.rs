//! The shortcut between the proxy and pods of its node: what comes through it is what came by TCP.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::host::Host;
use ingress_tests::load::Plan;
use ingress_tests::rig::{EDGE_V4, Options, POD_PORT, POD1_V4, POD1_V6, Rig, wait_until};
use socket2::SockRef;

use crate::{Scene, near_and_far};

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn bytes_to_and_from_a_pod_come_whole_and_in_order() -> Result<()> {
    for address in [POD1_V4, POD1_V6] {
        let scene = Made::set("--shortcut=on", address)?;
        let of = |reason| scene.scene.sluice.packets("shortcut", reason);
        let by_self_test = (of("pod_enrolled")?, of("redirected")?);
        let (mut stream, mut reader) = scene.connect()?;
        // Requests with and without bodies take turns on one connection to the pod.
        for size in [1, 1024, 65_536, 300_000, 5_000_000, 40_000_000] {
            write!(stream, "GET /{size} HTTP/1.1\r\nHost: made.test\r\n\r\n")?;
            expect_body(&mut reader, size)?;
            let size = size.min(BODY_BYTES_MAX);
            write!(
                stream,
                "POST /7 HTTP/1.1\r\nHost: made.test\r\nContent-Length: {size}\r\n\r\n"
            )?;
            let mut writer = stream.try_clone()?;
            let sending = thread::spawn(move || write_pattern(&mut writer, size));
            // The pod answers when it has read and compared all of it.
            expect_body(&mut reader, 7)?;
            sending.join().ok().context("a panic")??;
        }
        assert!(of("pod_enrolled")? > by_self_test.0, "{address}");
        assert!(of("redirected")? > by_self_test.1 + 10, "{address}");
        assert!(of("not_eligible")? > 0, "bodies");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn sockets_of_other_workloads_are_not_touched() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--shortcut=on"))?;
    let enrolled = || -> Result<u64> {
        let of = |reason| scene.sluice.packets("shortcut", reason);
        Ok(of("proxy_enrolled")? + of("pod_enrolled")? + of("pod_unproven")?)
    };
    let by_self_test = enrolled()?;
    ask(&scene.rig.client)?;
    let before = enrolled()?;
    assert_eq!(
        before,
        by_self_test + 2,
        "both ends of the connection to a pod"
    );
    // The host speaks with the same pod, and so does another pod.
    for sender in [&scene.rig.edge, &scene.rig.pod2] {
        let mut stream = sender.run(|| TcpStream::connect((POD1_V4, POD_PORT)))??;
        exchange(&mut stream)?;
        assert!(!is_marked(&stream)?);
    }
    // A workload that has the pod's address in a network namespace of its own.
    let workload = &scene.rig.node2;
    workload.ip(&format!("addr add {POD1_V4}/32 dev lo"))?;
    let listener = workload.run(|| TcpListener::bind((POD1_V4, POD_PORT)))??;
    let mut here = workload.run(|| TcpStream::connect((POD1_V4, POD_PORT)))??;
    let (mut there, _) = listener.accept()?;
    here.write_all(b"by TCP")?;
    let mut read = [0; 6];
    there.read_exact(&mut read)?;
    assert_eq!(&read, b"by TCP");
    assert_eq!(enrolled()?, before);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn pod_that_ends_or_resets_in_the_middle_looks_as_on_tcp() -> Result<()> {
    for path in ["end", "reset"] {
        let received = ["--shortcut=on", "--shortcut=off"].map(|flag| -> Result<_> {
            let scene = Made::set(flag, POD1_V4)?;
            let (mut stream, mut reader) = scene.connect()?;
            write!(stream, "GET /{path} HTTP/1.1\r\nHost: made.test\r\n\r\n")?;
            let length = read_head(&mut reader)?;
            assert_eq!(length, 2 * BROKEN_BYTES);
            let mut bytes = Vec::new();
            let outcome = reader.read_to_end(&mut bytes).map_err(|error| error.kind());
            // What the pod sent before its end arrives. A reset may discard what nobody has read yet.
            let sent = pattern(BROKEN_BYTES);
            assert!(sent.starts_with(&bytes), "{flag} {path}");
            assert!(
                path == "reset" || bytes.len() == sent.len(),
                "{flag} {path}"
            );
            let (mut stream, mut reader) = scene.connect()?;
            write!(stream, "GET /1024 HTTP/1.1\r\nHost: made.test\r\n\r\n")?;
            expect_body(&mut reader, 1024)?;
            Ok(outcome.map(drop))
        });
        let [on, off] = received;
        assert_eq!(on?, off?, "{path}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn slow_client_makes_the_pod_wait() -> Result<()> {
    let scene = Made::set("--shortcut=on", POD1_V4)?;
    let (mut stream, mut reader) = scene.connect()?;
    write!(
        stream,
        "GET /{SLOW_BYTES} HTTP/1.1\r\nHost: made.test\r\n\r\n"
    )?;
    let mut before = 0;
    wait_until("the pod to stop writing", || {
        thread::sleep(Duration::from_millis(300));
        let written = scene.written.load(Ordering::Relaxed);
        Ok(written > 0 && std::mem::replace(&mut before, written) == written)
    })?;
    assert!(before < SLOW_BYTES as u64 / 4, "{before} bytes are held");
    expect_body(&mut reader, SLOW_BYTES)?;
    assert!(scene.scene.sluice.packets("shortcut", "reader_behind")? > 0);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn pods_that_come_and_go_under_load_fail_no_request() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--shortcut=on"))?;
    let load = Plan::kept_alive(EDGE_V4, "near.test")?.start(&scene.rig.client)?;
    wait_until("some load", || Ok(load.answered() > 500))?;
    for pods in [&[POD1_V4][..], &["10.2.1.2"], &[POD1_V4, "10.2.1.2"]] {
        let generation = scene.sluice.generation()?;
        let served = ingress_tests::manifest::Manifest::default().serve("near.test", pods);
        served.save(&scene.manifests)?;
        scene.sluice.wait_for_generation_after(generation)?;
        let before = load.answered();
        wait_until("more load", || Ok(load.answered() > before + 500))?;
    }
    let outcome = load.stop()?;
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(scene.sluice.packets("shortcut", "redirected")? > 1000);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn upgraded_connection_leaves_the_shortcut_on_its_way_to_the_pod() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--shortcut=on"))?;
    let connect = || TcpStream::connect((EDGE_V4, 80));
    let mut stream = scene.rig.client.run(connect)??;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        b"GET / HTTP/1.1\r\nHost: near.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 101"), "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let echoed = 8_000_000;
    let mut writer = stream.try_clone()?;
    let sending = thread::spawn(move || write_pattern(&mut writer, echoed));
    let mut bytes = vec![0; echoed];
    reader.read_exact(&mut bytes)?;
    ensure!(bytes == pattern(echoed), "other bytes than were sent");
    sending.join().ok().context("a panic")??;
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn shortcut_that_is_off_says_why() -> Result<()> {
    for (flag, reason) in [
        ("--shortcut=off", "switched off"),
        ("--shortcut=auto", "splice"),
    ] {
        let scene = Scene::set_with(|daemon| daemon.with(flag))?;
        let load = Plan::kept_alive(EDGE_V4, "near.test")?.start(&scene.rig.client)?;
        wait_until("some load", || Ok(load.answered() > 100))?;
        assert_eq!(load.stop()?.failures, Vec::<String>::new());
        let status = scene.sluice.status()?;
        let shortcut = &status["datapath"]["shortcut"];
        assert_eq!(shortcut["is_on"], false, "{shortcut}");
        let told = shortcut["reason"].as_str().context("no reason")?;
        assert!(told.contains(reason), "{told}");
        let expected = u64::from(!flag.ends_with("off"));
        let enrolled = scene.sluice.packets("shortcut", "pod_enrolled")?;
        assert!(enrolled >= expected, "what the self-test does");
        let load = Plan::kept_alive(EDGE_V4, "near.test")?.start(&scene.rig.client)?;
        wait_until("some load", || Ok(load.answered() > 100))?;
        load.stop()?;
        let after = scene.sluice.packets("shortcut", "pod_enrolled")?;
        assert_eq!(after, enrolled, "no connection of a pod");
    }
    Ok(())
}

/// A daemon before a pod that the test itself is.
struct Made {
    scene: Scene,
    /// Bytes of bodies that the pod's socket took.
    written: Arc<AtomicU64>,
}

impl Made {
    fn set(flag: &str, address: &str) -> Result<Self> {
        let rig = Rig::build(Options::from_env()?)?;
        let listener = rig.pod1.run(|| TcpListener::bind(("::", MADE_PORT)))??;
        let written = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&written);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                thread::spawn(move || serve(&stream, &counter));
            }
        });
        let served = near_and_far().serve_at("made.test", &[address], MADE_PORT);
        let scene = Scene::serve(rig, &served, |daemon| daemon.with(flag))?;
        Ok(Self { scene, written })
    }

    fn connect(&self) -> Result<(TcpStream, BufReader<TcpStream>)> {
        let address: SocketAddr = (EDGE_V4.parse::<std::net::IpAddr>()?, 80).into();
        let stream = self
            .scene
            .rig
            .client
            .run(|| TcpStream::connect(address))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok((stream, reader))
    }
}

/// A pod: bodies are bytes of a pattern, in both directions.
fn serve(stream: &TcpStream, written: &AtomicU64) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split([' ', '/']).nth(2).unwrap_or_default().to_owned();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line)?;
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if body != pattern(length) {
            return Err(ErrorKind::InvalidData.into());
        }
        let size = path.parse().unwrap_or(2 * BROKEN_BYTES);
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
        match path.as_str() {
            "end" => return write_pattern(&mut writer, BROKEN_BYTES),
            "reset" => {
                write_pattern(&mut writer, BROKEN_BYTES)?;
                return SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
            _ => {}
        }
        for piece in pattern(size).chunks(MADE_PIECE_BYTES) {
            writer.write_all(piece)?;
            written.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
}

fn pattern(count: usize) -> Vec<u8> {
    let byte = |at: usize| u8::try_from((at % 4093) % 241).unwrap_or_default();
    (0..count).map(byte).collect()
}

fn write_pattern(writer: &mut TcpStream, count: usize) -> io::Result<()> {
    writer.write_all(&pattern(count))
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Result<usize> {
    let (mut line, mut length) = (String::new(), None);
    reader.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 200"), "`{line}`");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = Some(value.trim().parse()?);
        }
    }
    length.context("no length")
}

fn expect_body(reader: &mut BufReader<TcpStream>, size: usize) -> Result<()> {
    ensure!(read_head(reader)? == size, "another length");
    let mut body = vec![0; size];
    reader.read_exact(&mut body)?;
    ensure!(
        body == pattern(size),
        "other bytes than were sent, of {size}"
    );
    Ok(())
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /bytes/4 HTTP/1.1\r\nHost: pod\r\n\r\n")?;
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer)?;
    ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "no answer");
    Ok(())
}

/// Whether the kernel has enrolled the socket.
fn is_marked(stream: &TcpStream) -> Result<bool> {
    let (mut retries, mut length) = (0, 4);
    // SAFETY: the descriptor is open, and the kernel writes an int of the size that is told.
    let result = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(stream),
            libc::IPPROTO_TCP,
            libc::TCP_SYNCNT,
            (&raw mut retries).cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, "{}", io::Error::last_os_error());
    Ok(retries == ingress_common::shortcut::ENROLLED_SYN_RETRIES)
}

fn ask(client: &Host) -> Result<()> {
    let response = Request::get(&format!("http://{EDGE_V4}/"), "near.test").send(client)?;
    ensure!(response.status == 200, "{}", response.status);
    Ok(())
}

const MADE_PORT: u16 = 9000;
const MADE_PIECE_BYTES: usize = 256 * 1024;
/// The default of `proxy-body-size`.
const BODY_BYTES_MAX: usize = 1 << 20;
const BROKEN_BYTES: usize = 100_000;
const SLOW_BYTES: usize = 200_000_000;
const PATIENCE: Duration = Duration::from_mins(1);
