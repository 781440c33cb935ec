//! Ports of TCP and UDP services by flags, and by ConfigMaps while the daemon runs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};

use crate::daemon::{Daemon, PATIENCE, Place, free_port, origin, read_answer, wait_for};

/// Saves the ConfigMap `web/services` with these entries.
fn save(place: &Place, entries: &[(&str, &str)]) {
    let lines = entries
        .iter()
        .map(|(key, value)| format!("  \"{key}\": \"{value}\"\n"));
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: services, namespace: web}}\ndata:\n{}",
        lines.collect::<String>()
    );
    let directory = place.directory.path();
    fs::write(directory.join("services.new"), text).unwrap();
    let file = directory.join("manifests/services.yaml");
    fs::rename(directory.join("services.new"), file).unwrap();
}

/// The first line of the answer to a request that asks for no host we know: nobody looks.
fn ask(stream: &mut TcpStream) -> Option<u16> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")
        .ok()?;
    read_answer(&mut BufReader::new(stream.try_clone().unwrap())).map(|answer| answer.status)
}

fn is_served(port: u16) -> bool {
    let stream = TcpStream::connect(("127.0.0.1", port));
    stream.is_ok_and(|mut stream| ask(&mut stream) == Some(200))
}

fn is_refused(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}

#[test]
fn a_tcp_service_has_a_port_of_its_own() {
    let place = Place::new(origin());
    let port = free_port();
    let daemon = place.start("a", &[&format!("--tcp-service={port}=web/cart:80")]);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Whatever the host is: nobody looks.
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 200 OK\r\n", "{}", daemon.log());
}

#[test]
fn a_port_that_a_flag_names_and_another_process_has_ends_the_daemon() {
    let place = Place::new(origin());
    let port = free_port();
    let _other = TcpListener::bind(("0.0.0.0", port)).unwrap();
    let mut daemon = place.spawn("a", &[&format!("--tcp-service={port}=web/cart:80")]);
    assert!(!daemon.wait().success());
    let told = format!("cannot listen on port {port}: it is taken");
    assert!(daemon.log().contains(&told), "{}", daemon.log());
}

#[test]
fn ports_of_a_config_map_come_and_go_without_a_restart() {
    let place = Place::new(origin());
    let [one, two, flag] = [free_port(), free_port(), free_port()];
    let flags = [
        "--tcp-services-configmap=web/services",
        &format!("--tcp-service={flag}=web/cart:80"),
    ];
    let service = "web/cart:80";
    save(&place, &[(&one.to_string(), service)]);
    let daemon = place.start("a", &flags);
    wait_for("the first port", || is_served(one));
    assert!(is_served(flag) && is_refused(two));
    let mut kept = TcpStream::connect(("127.0.0.1", one)).unwrap();
    assert_eq!(ask(&mut kept), Some(200));

    save(
        &place,
        &[
            (&two.to_string(), service),
            ("0", service),
            (&flag.to_string(), service),
        ],
    );
    wait_for("the second port", || is_served(two));
    wait_for("the end of the first", || is_refused(one));
    assert_eq!(ask(&mut kept), Some(200), "a connection runs on");
    assert!(is_served(flag));
    for told in [
        "ConfigMap web/services: data[0]: `0` is no port".to_owned(),
        format!("data[{flag}]: port {flag} already belongs to a service that a flag names"),
    ] {
        wait_for("the mistake to be told", || daemon.log().contains(&told));
    }

    fs::remove_file(place.directory.path().join("manifests/services.yaml")).unwrap();
    wait_for("the end of the second port", || is_refused(two));
    assert!(is_served(flag), "{}", daemon.log());
}

#[test]
fn a_port_that_another_process_has_is_taken_when_it_is_free() {
    let place = Place::new(origin());
    let [taken, free] = [free_port(), free_port()];
    let other = TcpListener::bind(("0.0.0.0", taken)).unwrap();
    let entries = [taken, free].map(|port| port.to_string());
    save(
        &place,
        &[(&entries[0], "web/cart:80"), (&entries[1], "web/cart:80")],
    );
    let daemon = place.start("a", &["--tcp-services-configmap=web/services"]);
    wait_for("the other port", || is_served(free));
    let told = format!("ConfigMap web/services: data[{taken}]: cannot listen on port {taken}");
    wait_for("the problem to be told", || daemon.log().contains(&told));
    drop(other);
    wait_for("the port", || is_served(taken));
    let over = format!("no longer a problem: {told}");
    wait_for("the problem to be over", || daemon.log().contains(&over));
}

/// What a client gets through `port` from an origin.
fn exchange(origin: &UdpSocket, port: u16, daemon: &Daemon) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    for socket in [origin, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut buffer = [0; 100];
    client.send(b"question").unwrap();
    let (count, from) = origin.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"question", "{}", daemon.log());
    origin.send_to(b"answer", from).unwrap();
    let count = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"answer");
}

#[test]
fn udp_services_have_ports_by_flags_and_by_config_maps() {
    let origin = UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = origin.local_addr().unwrap();
    let place = Place::new(endpoint);
    place.change(|manifest| {
        let port = format!("ports: [{{port: {}", endpoint.port());
        manifest
            .replace("ports: [{port: 80", "ports: [{protocol: UDP, port: 80")
            .replace(&port, &format!("{port}, protocol: UDP"))
    });
    let [flag, entry] = [free_port(), free_port()];
    let flags = [
        &format!("--udp-service={flag}=web/cart:80"),
        "--udp-services-configmap=web/services",
    ];
    let daemon = place.start("a", &flags);
    exchange(&origin, flag, &daemon);
    save(&place, &[(&entry.to_string(), "web/cart:80")]);
    wait_for("the port", || UdpSocket::bind(("0.0.0.0", entry)).is_err());
    exchange(&origin, entry, &daemon);
    save(&place, &[]);
    wait_for("its end", || UdpSocket::bind(("0.0.0.0", entry)).is_ok());
    exchange(&origin, flag, &daemon);
}
