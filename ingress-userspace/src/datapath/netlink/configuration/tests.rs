//! Which attributes of a device are recorded, and where they are restored.

use super::*;

fn address(ip: IpAddr, bits: u8, flags: AddressFlags) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(ip);
    message.header.index = 7;
    message.header.prefix_len = bits;
    message.attributes = vec![
        AddressAttribute::Address(ip),
        AddressAttribute::Flags(flags),
    ];
    message
}

fn route(index: u32, table: u32, protocol: RouteProtocol) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.kind = RouteType::Unicast;
    message.header.protocol = protocol;
    let gateway = RouteAddress::Inet([10, 0, 0, 254].into());
    message.attributes = vec![
        RouteAttribute::Gateway(gateway),
        RouteAttribute::Oif(index),
        RouteAttribute::Table(table),
    ];
    message
}

#[test]
fn a_configuration_survives_its_wire_format() {
    let ip = "2001:db8::1".parse().unwrap();
    let configuration = Configuration {
        addresses: vec![plain_address(address(ip, 64, AddressFlags::Permanent))],
        routes: vec![route(7, 1001, RouteProtocol::Static)],
    };
    let (addresses, routes) = configuration.to_bytes();
    assert_eq!(
        Configuration::from_bytes(&addresses, &routes),
        Some(configuration)
    );
    assert_eq!(Configuration::from_bytes(&[vec![1]], &[]), None);
}

#[test]
fn routes_of_the_kernel_and_of_other_devices_are_not_recorded() {
    assert!(is_of(&route(7, 254, RouteProtocol::Static), 7));
    assert!(!is_of(&route(8, 254, RouteProtocol::Static), 7));
    assert!(!is_of(&route(7, 254, RouteProtocol::Kernel), 7));
    assert!(!is_of(&route(7, LOCAL_TABLE, RouteProtocol::Static), 7));
}

#[test]
fn a_route_gets_another_device_and_keeps_or_changes_its_table() {
    let recorded = route(7, 1001, RouteProtocol::Static);
    assert_eq!(
        table_of(&placed_route(recorded.clone(), 9, Place::AsRecorded)),
        1001
    );
    let placed = placed_route(recorded, 9, Place::Table(8277));
    assert_eq!(table_of(&placed), 8277);
    assert!(is_of(&placed, 9));
}

#[test]
fn network_of_an_address_is_reached_through_its_device() {
    let own = "10.0.0.7".parse().unwrap();
    let route = network_route(&address(own, 24, AddressFlags::empty())).unwrap();
    let network = RouteAddress::Inet([10, 0, 0, 0].into());
    assert!(
        route
            .attributes
            .contains(&RouteAttribute::Destination(network))
    );
    assert_eq!(
        network_route(&address(own, 32, AddressFlags::empty())),
        None
    );
    assert_eq!(
        network_route(&address(own, 24, AddressFlags::Noprefixroute)),
        None
    );
}

#[test]
fn temporary_addresses_are_left_out() {
    let ip = "2001:db8::1".parse().unwrap();
    assert!(is_temporary(&address(ip, 64, AddressFlags::Secondary)));
    let second = "10.0.0.8".parse().unwrap();
    assert!(!is_temporary(&address(second, 24, AddressFlags::Secondary)));
}
