//! Clients that hold all connections without using them do not lock out others.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::daemon::{Place, origin};

/// Descriptors of the daemon, and the addresses that the clients come from: each may have a quarter
/// of the descriptors.
const DESCRIPTORS: u32 = 300;
const ADDRESSES: u8 = 5;
const CONNECTIONS: usize = 75;

fn connect_from(number: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, number), 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn idle_connections_of_five_addresses_keep_nobody_out() {
    let mut place = Place::new(origin());
    place.descriptors = Some(DESCRIPTORS);
    let daemon = place.start("a", &[]);
    let addresses = 2..2 + ADDRESSES;
    let idle: Vec<_> = addresses
        .flat_map(|number| (0..CONNECTIONS).map(move |_| number))
        .map(|number| connect_from(number, daemon.http))
        .collect();
    for _ in 0..10 {
        assert_eq!(daemon.get(daemon.http, "/").status, 200);
    }
    let live = place.sluice(&["ready", "--live"]);
    assert!(live.status.success(), "{live:?}");
    let metrics = daemon.get(daemon.admin, "/metrics").body;
    let evicted = metrics
        .lines()
        .any(|line| line.starts_with("sluice_connections_evicted_total{") && !line.ends_with(" 0"));
    assert!(evicted, "{metrics}");
    assert!(daemon.descriptors() < DESCRIPTORS as usize);
    drop(idle);
}
