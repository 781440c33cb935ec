//! The admin port.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::daemon::{Daemon, Place, origin, wait_for};

#[test]
fn a_daemon_tells_what_it_serves_and_whether_it_does() {
    let place = Place::new(origin());
    let daemon = place.start("a", &["--workers=2"]);
    assert_eq!(daemon.get(daemon.http, "/").body, "ok");
    let health = daemon.get(daemon.admin, "/healthz");
    assert_eq!((health.status, &*health.body), (200, "ok\n"));
    // What these tell is for the Unix socket, which only root may open.
    for path in ["/else", "/status", "/explain"] {
        assert_eq!(daemon.get(daemon.admin, path).status, 404, "{path}");
    }
    let counted = "host=\"one.test\",ingress=\"shop\",method=\"GET\",namespace=\"web\",path=\"/\",\
                   service=\"cart\",status=\"200\"} 1\n";
    wait_for(
        "the request to be counted, with its line in the log",
        || daemon.get(daemon.admin, "/metrics").body.contains(counted),
    );
    let metrics = daemon.get(daemon.admin, "/metrics");
    assert!(
        metrics.head.contains("text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    for line in [
        "nginx_ingress_controller_config_last_reload_successful{",
        "nginx_ingress_controller_nginx_process_cpu_seconds_total{",
        "nginx_ingress_controller_nginx_process_resident_memory_bytes{",
        "sluice_worker_running{worker=\"1\"} 1\n",
    ] {
        assert!(
            metrics.body.contains(line),
            "`{line}` is in\n{}",
            metrics.body
        );
    }
}

/// The status of such a response says nothing of it: it was sent before.
#[test]
fn response_bodies_that_break_off_are_logged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).unwrap_or(0) == 0 {
                    break;
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbroken";
            let _ = stream.get_mut().write_all(answer);
        }
    });
    let place = Place::new(endpoint);
    let daemon = place.start("a", &[]);
    let mut client = TcpStream::connect(daemon.http).unwrap();
    let head = "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert!(answer.ends_with(b"broken"));
    wait_for("the log to name the endpoint and the reason", || {
        let log = daemon.log();
        log.contains("response body broke off") && log.contains(&endpoint.to_string())
    });
}

#[test]
fn an_address_that_another_daemon_has_is_taken_when_it_is_free() {
    let place = Place::new(origin());
    let mut first = place.start("a", &[]);
    let taken = format!("--metrics-address={}", first.admin);
    let second = place.spawn("b", &[&taken]);
    wait_for("the second to serve", || second.log().contains("serving"));
    first.terminate();
    assert!(first.wait().success(), "{}", first.log());
    wait_for("the second to tell that it is ready", || {
        Daemon::try_get(first.admin, "/readyz").is_some_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_daemon_that_is_told_to_end_ends() {
    let place = Place::new(origin());
    let mut daemon = place.start("a", &[]);
    daemon.terminate();
    assert!(daemon.wait().success(), "{}", daemon.log());
    assert!(Daemon::try_get(daemon.http, "/").is_none());
}

/// Clients of the metrics address that ask and never read cost one snapshot, not a text each.
#[test]
fn scrapers_that_do_not_read_cost_no_text_each() {
    let place = Place::new(origin());
    let hosts: Vec<String> = (0..400).map(|number| format!("h{number}.test")).collect();
    place.add_hosts(&hosts);
    let daemon = place.start("a", &[]);
    for host in &hosts {
        assert_eq!(daemon.get_host(daemon.http, host, "/").status, 200);
    }
    let text = daemon.get(daemon.admin, "/metrics");
    assert_eq!(text.status, 200);
    assert!(text.body.len() > 5 << 20, "{}", text.body.len());
    let before = daemon.resident_kib("VmRSS:");
    assert!(daemon.descriptors() < 60);
    let stalled: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = TcpStream::connect(daemon.admin).unwrap();
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            stream
        })
        .collect();
    wait_for("all scrapers to be connected", || {
        daemon.descriptors() >= stalled.len()
    });
    wait_for("scrapers that do not read to be closed", || {
        daemon.descriptors() < stalled.len()
    });
    let growth = daemon.resident_kib("VmHWM:").saturating_sub(before);
    assert!(growth < 96 << 10, "{growth} KiB");
    assert_eq!(daemon.get(daemon.admin, "/healthz").status, 200);
}
