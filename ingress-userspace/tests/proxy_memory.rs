//! Large bodies move through a bounded amount of memory. Alone in its process, because it looks
//! at the memory of the whole.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Read;

use proxy_rig::rig::{self, Origin, Proxy, config};

const BODY_BYTES: usize = 100 << 20;

/// What the process may grow by: buffers of sockets' ends and of the test itself included.
const GROWTH_KIB_MAX: usize = 8 << 10;

#[test]
fn large_bodies_stream_both_ways_in_bounded_memory() {
    let origin = Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            if head.text.starts_with("POST") {
                let mut rest = vec![0; 1 << 16];
                let mut left = BODY_BYTES;
                while left > 0 {
                    left -= connection
                        .stream
                        .read(&mut rest[..left.min(1 << 16)])
                        .unwrap();
                }
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
            } else {
                connection.write(&format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
                ));
                send(&mut connection);
            }
        }
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    assert_eq!(client.get("none.test", "/").status, 404);
    let before = peak_kib();

    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(client.read_head().unwrap().status(), 200);
    let mut received = 0;
    let mut chunk = vec![0; 1 << 16];
    while received < BODY_BYTES {
        let count = client.stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the body is complete");
        received += count;
    }
    assert_eq!(received, BODY_BYTES);

    client.write(&format!(
        "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    ));
    send(&mut client);
    assert_eq!(client.read_reply().text(), "done");

    let growth = peak_kib() - before;
    assert!(growth < GROWTH_KIB_MAX, "grew by {growth} KiB");
    assert_eq!(origin.connections(), 1);
}

fn send(to: &mut rig::Client) {
    let chunk = "x".repeat(1 << 16);
    for _ in 0..BODY_BYTES / chunk.len() {
        to.write(&chunk);
    }
}

/// The most resident memory that this process has had.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
