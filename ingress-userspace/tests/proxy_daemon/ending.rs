//! The end of a daemon, alone and beside the one that takes over.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::daemon::{Daemon, PATIENCE, Place, origin, read_answer, wait_for};

#[test]
fn accepting_goes_on_for_a_while_after_readiness_has_ended() {
    let place = Place::new(origin());
    let mut daemon = place.start("a", &["--shutdown-delay=600"]);
    daemon.terminate();
    wait_for("readiness to end", || {
        Daemon::try_get(daemon.admin, "/readyz").is_some_and(|answer| answer.status == 503)
    });
    assert_eq!(daemon.get(daemon.http, "/").body, "ok");
    assert_eq!(daemon.get(daemon.admin, "/healthz").body, "draining\n");
    // Who asks again means it.
    daemon.terminate();
    assert!(daemon.wait().success(), "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("stopped"), "{log}");
    assert!(!log.contains("can't be written"), "{log}");
}

#[test]
fn another_daemon_takes_over_under_load_without_a_failure() {
    take_over(&[Kept::Alive; 4]);
}

#[test]
#[ignore = "needs root: the kernel hands over what is half accepted when it is told to"]
fn new_connections_meet_the_other_daemon_without_a_failure() {
    take_over(&[Kept::Alive, Kept::ForOne, Kept::ForOne, Kept::ForOne]);
}

/// How long a client keeps its connection.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Alive,
    ForOne,
}

/// Clients ask one daemon after another on the same port, while each gives way to the next.
fn take_over(clients: &[Kept]) {
    let place = Place::new(origin());
    let mut daemon = place.start("0", &[]);
    let address = daemon.http;
    let (done, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = clients
        .iter()
        .map(|kept| {
            let (kept, done, answered) = (*kept, Arc::clone(&done), Arc::clone(&answered));
            thread::spawn(move || ask(address, kept, &done, &answered))
        })
        .collect();
    for number in 1..=3 {
        let successor = place.start(&number.to_string(), &[]);
        let before = answered.load(Ordering::SeqCst);
        daemon.terminate();
        assert!(daemon.wait().success(), "{}", daemon.log());
        wait_for("requests to go on", || {
            answered.load(Ordering::SeqCst) > before + 500
        });
        daemon = successor;
    }
    done.store(true, Ordering::SeqCst);
    let failures: Vec<_> = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap())
        .collect();
    assert!(failures.is_empty(), "{failures:?}");
}

/// Asks until it is told to stop; returns what went wrong.
fn ask(address: SocketAddr, kept: Kept, done: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    let mut connection = None;
    while !done.load(Ordering::SeqCst) {
        match ask_once(address, &mut connection) {
            Ok(()) => {
                answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(failure) => failures.push(failure),
        }
        if matches!(kept, Kept::ForOne) {
            connection = None;
        }
    }
    failures
}

fn ask_once(
    address: SocketAddr,
    connection: &mut Option<BufReader<TcpStream>>,
) -> Result<(), String> {
    let mut stream = connection.take().map_or_else(|| connect(address), Ok)?;
    let request = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";
    let sent = stream.get_mut().write_all(request);
    sent.map_err(|error| format!("write: {error}"))?;
    let answer = read_answer(&mut stream).ok_or("no answer")?;
    if answer.status != 200 {
        return Err(format!("{answer:?}"));
    }
    if !answer
        .head
        .to_ascii_lowercase()
        .contains("connection: close")
    {
        *connection = Some(stream);
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<BufReader<TcpStream>, String> {
    let stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Ok(BufReader::new(stream))
}
