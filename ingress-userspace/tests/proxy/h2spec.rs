//! h2spec, the conformance test of HTTP/2 servers, against both ports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::rig::{Origin, Proxy, config};

/// The last version that the Go module proxy has.
const PACKAGE: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";

/// The program, built on first use; `None`, with the reason printed, on a machine without Go.
fn h2spec() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let root = cache.unwrap_or_else(std::env::temp_dir).join("sluice/go");
    let program = root.join("bin/h2spec");
    if program.exists() {
        return Some(program);
    }
    let mut install = Command::new("go");
    install.args(["install", PACKAGE]).env("GOPATH", &root);
    let install = install.env("GOFLAGS", "-modcacherw").current_dir("/");
    match install.output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => {
            eprintln!("skipped: h2spec is built with Go, and `go` cannot be run: {error}");
            return None;
        }
    }
    Some(program)
}

fn assert_conformant(port: SocketAddr, options: &[&str]) {
    let Some(program) = h2spec() else {
        return;
    };
    let output = Command::new(&program)
        .args(["-h", "127.0.0.1", "-p", &port.port().to_string()])
        // Two seconds, the default, are not enough when every core is busy.
        .args(["-o", "20"])
        .args(options)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(" 0 skipped, 0 failed"), "{text}");
}

const THINKING: Duration = Duration::from_millis(50);

/// A proxy whose endpoint thinks before it answers: a stream that is complete before the suite has
/// sent its fault can't be blamed for it.
fn proxy() -> (Proxy, Origin) {
    let origin = Origin::start(|mut connection| {
        while connection.read_head().is_some() {
            thread::sleep(THINKING);
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    let proxy = Proxy::start(config(&[("", "/", &[origin.address])]));
    (proxy, origin)
}

#[test]
fn the_cleartext_port_passes_by_prior_knowledge() {
    let (proxy, _origin) = proxy();
    assert_conformant(proxy.http, &[]);
}

#[test]
fn the_tls_port_passes() {
    let (proxy, _origin) = proxy();
    assert_conformant(proxy.https, &["-t", "-k"]);
}
