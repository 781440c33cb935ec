//! Policy rules of a namespace in which a device has addresses that are routed by a table of their own.

use std::net::IpAddr;

use rtnetlink::packet_route::route::RouteHeader;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::configuration::{bits_of, family_of};
use super::{LOCAL_TABLE, Netlink, NetlinkError, failed};

impl Netlink {
    /// Routes packets that leave from `address` by `table` first, even those to addresses of this
    /// namespace; see [`Netlink::lower_local_table`].
    pub(in crate::datapath) async fn add_source_rule(
        &self,
        address: IpAddr,
        table: u32,
    ) -> Result<(), NetlinkError> {
        let rule = rule(Some(address), family_of(address), table, SOURCE_PRIORITY);
        let message = RouteNetlinkMessage::NewRule(rule);
        self.put(message).await.map_err(failed("add a rule"))
    }

    /// Removes the rule that [`Netlink::add_source_rule`] has added; that there is none is no error.
    pub(in crate::datapath) async fn remove_source_rule(&self, address: IpAddr, table: u32) {
        let rule = rule(Some(address), family_of(address), table, SOURCE_PRIORITY);
        let _ = self.handle.rule().del(rule).execute().await;
    }

    /// Moves the rule of the table `local` behind those of [`Netlink::add_source_rule`].
    pub(in crate::datapath) async fn lower_local_table(&self) -> Result<(), NetlinkError> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let lowered = rule(None, family, LOCAL_TABLE, LOCAL_PRIORITY);
            let message = RouteNetlinkMessage::NewRule(lowered);
            self.put(message).await.map_err(failed("add a rule"))?;
            let first = rule(None, family, LOCAL_TABLE, 0);
            // An earlier daemon may have removed it.
            let _ = self.handle.rule().del(first).execute().await;
        }
        Ok(())
    }
}

fn rule(source: Option<IpAddr>, family: AddressFamily, table: u32, priority: u32) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    rule.attributes.push(RuleAttribute::Table(table));
    rule.attributes.push(RuleAttribute::Priority(priority));
    if let Some(source) = source {
        rule.header.src_len = bits_of(source);
        rule.attributes.push(RuleAttribute::Source(source));
    }
    rule
}

/// Of rules by source, before that of the table `local`.
const SOURCE_PRIORITY: u32 = 5;
const LOCAL_PRIORITY: u32 = 10;
