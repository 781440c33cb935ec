//! A device, as the kernel reports it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink messages have dozens of attributes, and kernels add more"
)]

use ingress_common::steering::Vlan;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// ifindex.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Link-layer address.
    pub mac: Vec<u8>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Id of the namespace that its other end is in, where that is another one.
    pub peer_netns: Option<u32>,
    /// Whether its frames have Ethernet headers.
    pub is_ethernet: bool,
    /// Whether it is one of a netkit pair.
    pub is_netkit: bool,
    /// Whether the kernel says that it never leaves its namespace (6.14+).
    pub is_immutable: bool,
    /// The device (ifindex) that it is a port or member of.
    pub controller: Option<u32>,
    /// The tag whose frames it takes, where it is a VLAN device that is up.
    pub vlan: Option<Vlan>,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: Vec::new(),
            mtu: 0,
            peer_netns: None,
            is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            is_netkit: false,
            is_immutable: false,
            controller: None,
            vlan: None,
        };
        let is_up = message.header.flags.contains(LinkFlags::Up);
        let (mut parent, mut tag) = (None, None);
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::LinkNetNsId(id) => link.peer_netns = u32::try_from(id).ok(),
                LinkAttribute::Link(index) => parent = Some(index),
                LinkAttribute::NetnsImmutable(is) => link.is_immutable = is,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::LinkInfo(info) => {
                    tag = info.iter().find_map(vlan_tag);
                    link.is_netkit = info.contains(&LinkInfo::Kind(InfoKind::Netkit));
                }
                _ => {}
            }
        }
        // A parent in another namespace is known by the index that it has there.
        if let (true, None, Some(parent), Some((ether_type, id))) =
            (is_up, link.peer_netns, parent, tag)
        {
            link.vlan = Some(Vlan {
                parent,
                ether_type,
                id,
            });
        }
        link
    }
}

/// `EtherType` and identifier of the tag that a VLAN device is for.
fn vlan_tag(info: &LinkInfo) -> Option<(u16, u16)> {
    let LinkInfo::Data(InfoData::Vlan(data)) = info else {
        return None;
    };
    let (mut ether_type, mut id) = (None, None);
    for attribute in data {
        match attribute {
            InfoVlan::Id(value) => id = Some(*value),
            InfoVlan::Protocol(value) => ether_type = Some(u16::from(*value)),
            _ => {}
        }
    }
    Some((ether_type?, id?))
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::VlanProtocol;

    use super::*;

    fn device(flags: LinkFlags, more: Option<LinkAttribute>) -> Link {
        let mut message = LinkMessage::default();
        message.header.index = 5;
        message.header.flags = flags;
        let tag = vec![InfoVlan::Id(7), InfoVlan::Protocol(VlanProtocol::Ieee8021Q)];
        message.attributes = vec![
            LinkAttribute::Link(2),
            LinkAttribute::LinkInfo(vec![LinkInfo::Data(InfoData::Vlan(tag))]),
        ];
        message.attributes.extend(more);
        Link::from(message)
    }

    #[test]
    fn a_vlan_device_takes_frames_of_its_parent_while_it_is_up() {
        let vlan = Vlan {
            parent: 2,
            ether_type: 0x8100,
            id: 7,
        };
        assert_eq!(device(LinkFlags::Up, None).vlan, Some(vlan));
        assert_eq!(device(LinkFlags::empty(), None).vlan, None);
        let elsewhere = LinkAttribute::LinkNetNsId(1);
        assert_eq!(device(LinkFlags::Up, Some(elsewhere)).vlan, None);
    }

    #[test]
    fn a_device_that_is_no_vlan_device_takes_no_tagged_frames() {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.attributes = vec![LinkAttribute::Link(2)];
        assert_eq!(Link::from(message).vlan, None);
    }
}
