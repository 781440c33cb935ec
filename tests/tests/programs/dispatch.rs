//! dispatch: which worker gets a new connection, and which gets none.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use ingress_common::verdict::Reason;
use ingress_tests::programs::{CLIENT_V4, CLIENT_V6, Lookup, Programs, UDP_PORT};

/// A client in both versions, on some port.
fn clients(port: u16) -> [SocketAddr; 2] {
    [IpAddr::V4(CLIENT_V4), IpAddr::V6(CLIENT_V6)].map(|address| SocketAddr::new(address, port))
}

/// Where the connections of so many clients go: connections by cookie.
fn spread(programs: &mut Programs, clients_max: u16) -> Result<BTreeMap<u64, u32>> {
    let mut connections = BTreeMap::new();
    for port in 0..clients_max {
        for client in clients(10_000 + port) {
            let (reason, cookie) = programs.dispatch(Lookup::tcp(client))?;
            assert_eq!(reason, Reason::Assigned);
            *connections.entry(cookie).or_default() += 1;
        }
    }
    Ok(connections)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_to_a_port_of_ours_is_given_to_the_worker() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    let worker = programs.maps.listen_tcp(0)?;
    for client in clients(40_000) {
        assert_eq!(
            programs.dispatch(Lookup::tcp(client))?,
            (Reason::Assigned, worker)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_datagram_to_a_port_of_ours_is_given_to_the_worker() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    let worker = programs.maps.listen_udp(0)?;
    for remote in clients(40_000) {
        let lookup = Lookup {
            remote,
            local_port: UDP_PORT,
            protocol: 17,
        };
        assert_eq!(programs.dispatch(lookup)?, (Reason::Assigned, worker));
        // The same port of TCP is nobody's.
        let lookup = Lookup {
            protocol: 6,
            ..lookup
        };
        assert_eq!(programs.dispatch(lookup)?, (Reason::NotOurs, 0));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_unknown_port_is_left_to_the_ordinary_lookup() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    for client in clients(40_000) {
        let lookup = Lookup {
            local_port: 22,
            ..Lookup::tcp(client)
        };
        assert_eq!(programs.dispatch(lookup)?, (Reason::NotOurs, 0));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn nothing_is_assigned_without_a_listener() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    let [v4, v6] = clients(40_000);
    assert_eq!(programs.dispatch(Lookup::tcp(v4))?, (Reason::NoListener, 0));
    programs.maps.listen_tcp(0)?;
    programs.maps.close_listeners();
    assert_eq!(programs.dispatch(Lookup::tcp(v6))?, (Reason::NoListener, 0));
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn nothing_is_assigned_before_user_space_has_spoken() -> Result<()> {
    let mut programs = Programs::load()?;
    let [client, _] = clients(40_000);
    assert_eq!(
        programs.dispatch(Lookup::tcp(client))?,
        (Reason::NotReady, 0)
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_less_loaded_of_two_workers_gets_the_connection() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.set_workers(programs.gate, 2)?;
    let workers = [programs.maps.listen_tcp(0)?, programs.maps.listen_tcp(1)?];
    for (loads, chosen) in [([0, 1], 0), ([1, 0], 1), ([1000, 999], 1)] {
        programs.maps.set_connections(0, loads[0])?;
        programs.maps.set_connections(1, loads[1])?;
        let connections = spread(&mut programs, 20)?;
        assert_eq!(connections, BTreeMap::from([(workers[chosen], 40)]));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn workers_of_equal_load_share_the_connections() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.set_workers(programs.gate, 4)?;
    for worker in 0..4 {
        programs.maps.listen_tcp(worker)?;
    }
    let connections = spread(&mut programs, 200)?;
    assert_eq!(connections.len(), 4, "{connections:?}");
    // 100 each, give or take four standard deviations of a binomial.
    assert!(
        connections.values().all(|count| (65..=135).contains(count)),
        "{connections:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_most_loaded_of_many_workers_gets_nothing() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.set_workers(programs.gate, 4)?;
    programs.maps.set_connections(0, 10)?;
    let busy = programs.maps.listen_tcp(0)?;
    for worker in 1..4 {
        programs.maps.listen_tcp(worker)?;
    }
    let connections = spread(&mut programs, 100)?;
    assert_eq!(connections.len(), 3, "{connections:?}");
    assert!(!connections.contains_key(&busy));
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn any_two_workers_may_be_the_candidates_of_a_connection() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.set_workers(programs.gate, 4)?;
    let mut workers = Vec::new();
    for worker in 0..4 {
        workers.push(programs.maps.listen_tcp(worker)?);
    }
    for pair in [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]] {
        // A loaded worker is chosen only where the other candidate is loaded too.
        for worker in 0..4 {
            programs
                .maps
                .set_connections(worker, u64::from(pair.contains(&worker)))?;
        }
        let connections = spread(&mut programs, 60)?;
        let of_pair = |worker: u32| connections.get(&workers[worker as usize]).unwrap_or(&0);
        // One in six is expected: 20 of 120.
        let both: u32 = pair.into_iter().map(of_pair).sum();
        assert!((5..=40).contains(&both), "{pair:?}: {connections:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_other_candidate_stands_in_for_a_worker_without_a_listener() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.set_workers(programs.gate, 2)?;
    let worker = programs.maps.listen_tcp(1)?;
    programs.maps.set_connections(1, 100)?;
    assert_eq!(spread(&mut programs, 20)?, BTreeMap::from([(worker, 40)]));
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_client_meets_the_same_worker_again_while_loads_stay() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.set_workers(programs.gate, 4)?;
    for worker in 0..4 {
        programs.maps.listen_tcp(worker)?;
    }
    for client in (0..50).flat_map(|port| clients(10_000 + port)) {
        let first = programs.dispatch(Lookup::tcp(client))?;
        assert_eq!(programs.dispatch(Lookup::tcp(client))?, first);
    }
    Ok(())
}
