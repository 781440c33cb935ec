//! Ports of services that come and go while a worker runs.

use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use ingress_core::ir::Config;
use ingress_userspace::proxy::{Datapath, Listener, Transport, listen, listen_datagrams};

use crate::datagram::{self, ask, echo};
use crate::relay::service;
use crate::rig::{Client, Origin, Proxy, wait_until};

/// Repeats each line.
fn repeating() -> Origin {
    Origin::start(|mut connection| {
        let mut line = String::new();
        while connection
            .stream
            .read_line(&mut line)
            .is_ok_and(|count| count > 0)
        {
            connection.write(&line);
            line.clear();
        }
    })
}

/// What comes back for a line.
fn repeated(client: &mut Client, line: &str) -> String {
    client.write(line);
    let mut back = String::new();
    client.stream.read_line(&mut back).unwrap();
    back
}

/// Has the worker open a port that the kernel chooses, or this one.
fn open(proxy: &Proxy, port: u16) -> SocketAddr {
    let socket = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let listener = Listener {
        socket,
        scheme: None,
        datapath: Datapath::Host,
    };
    proxy.worker.open(vec![listener], Vec::new());
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[test]
fn a_port_that_is_closed_takes_no_connection_and_ends_none() {
    let origin = repeating();
    let proxy = Proxy::start(Config::default());
    let address = open(&proxy, 0);
    proxy.publish(service(address.port(), "", &[origin.address]));
    let mut client = Client::connect(address);
    assert_eq!(repeated(&mut client, "one\n"), "one\n");
    proxy.publish(Config::default());
    proxy.worker.close(Transport::Tcp, address.port());
    wait_until("the port is closed", || {
        TcpStream::connect(address).is_err()
    });
    assert_eq!(repeated(&mut client, "two\n"), "two\n");
    assert_eq!(open(&proxy, address.port()), address);
    proxy.publish(service(address.port(), "", &[origin.address]));
    let mut again = Client::connect(address);
    assert_eq!(repeated(&mut again, "three\n"), "three\n");
    assert_eq!(repeated(&mut client, "four\n"), "four\n");
}

#[test]
fn a_changed_backend_is_for_new_connections() {
    let proxy = Proxy::start(Config::default());
    let address = open(&proxy, 0);
    let named = |name: &'static str| {
        Origin::start(move |mut connection| {
            connection.write(name);
            let mut end = String::new();
            let _ = connection.stream.read_line(&mut end);
        })
    };
    let (one, two) = (named("one\n"), named("two\n"));
    let connect = || {
        let mut client = Client::connect(address);
        let mut name = String::new();
        client.stream.read_line(&mut name).unwrap();
        (client, name)
    };
    proxy.publish(service(address.port(), "", &[one.address]));
    let (mut first, name) = connect();
    assert_eq!(name, "one\n");
    proxy.publish(service(address.port(), "", &[two.address]));
    assert_eq!(connect().1, "two\n");
    first.stream.get_ref().set_nonblocking(true).unwrap();
    let error = first.stream.fill_buf().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "it is open");
    first.stream.get_ref().set_nonblocking(false).unwrap();
    first.stream.get_mut().write_all(b"end\n").unwrap();
    assert!(first.is_closed());
}

#[test]
fn sessions_of_a_udp_port_end_with_it() {
    let proxy = Proxy::start(Config::default());
    let endpoint = echo("one");
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let socket = listen_datagrams(any).unwrap();
    let port = socket.local_addr().unwrap().port();
    proxy.worker.open(Vec::new(), vec![socket]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for round in 0..3 {
        proxy.publish(datagram::service(port, &[endpoint]));
        let client = datagram::client(address);
        assert_eq!(ask(&client, b"hello").2, b"hello", "{round}");
        assert_eq!(proxy.snapshot().udp_sessions_open, 1);
        // The backend is still there: only the port goes.
        proxy.worker.close(Transport::Udp, port);
        wait_until("the session has ended", || {
            proxy.snapshot().udp_sessions_open == 0
        });
        let again = listen_datagrams(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).unwrap();
        proxy.worker.open(Vec::new(), vec![again]);
    }
}
