//! Flags of what is dropped at frontends, and of `sluice deny`.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::clients::parse_network;
use super::{Output, RunDir};
use crate::datapath::SourceBudget;

/// Flags of what the XDP program drops at frontends.
#[derive(Debug, Args)]
pub struct Budgets {
    /// New connections a second that one source may open to HTTP, HTTPS and TCP service ports,
    /// beyond its burst [default: unlimited]. Others are dropped by the XDP program, on uplinks
    /// alone.
    #[arg(long, env = "SLUICE_SOURCE_CONNECTION_RATE", value_name = "NUMBER")]
    pub source_connection_rate: Option<u32>,

    /// New connections that one source may open at once, before its rate counts.
    #[arg(
        long,
        env = "SLUICE_SOURCE_CONNECTION_BURST",
        value_name = "NUMBER",
        default_value_t = 100
    )]
    pub source_connection_burst: u32,

    /// Bits of an IPv4 address that make a source.
    #[arg(long, env = "SLUICE_SOURCE_PREFIX_V4", value_name = "BITS", default_value_t = 32,
          value_parser = clap::value_parser!(u8).range(1..=32))]
    pub source_prefix_v4: u8,

    /// Bits of an IPv6 address that make a source.
    #[arg(long, env = "SLUICE_SOURCE_PREFIX_V6", value_name = "BITS", default_value_t = 64,
          value_parser = clap::value_parser!(u8).range(1..=128))]
    pub source_prefix_v6: u8,

    /// New connections a second, of all sources, from which on the XDP program answers SYNs by
    /// cookies, in the place of the listeners; 0: never.
    ///
    /// Clients notice nothing. A SYN that is answered this way allocates no memory before the client's
    /// next packet.
    #[arg(
        long,
        env = "SLUICE_SYN_FLOOD_THRESHOLD",
        value_name = "NUMBER",
        default_value_t = 10_000
    )]
    pub syn_flood_threshold: u32,
}

impl Budgets {
    /// New connections that a source may open.
    pub fn source_budget(&self) -> SourceBudget {
        SourceBudget {
            per_second: self.source_connection_rate.unwrap_or(0),
            burst: self.source_connection_burst,
            v4_bits: self.source_prefix_v4,
            v6_bits: self.source_prefix_v6,
        }
    }
}

/// Flags of `sluice deny`.
#[derive(Clone, Debug, Args)]
pub struct Deny {
    /// The network whose packets to HTTP, HTTPS and service ports are dropped, open connections
    /// included. What comes past the XDP program is reset when it connects.
    #[arg(value_name = "CIDR", value_parser = parse_denied, required_unless_present = "list")]
    pub network: Option<IpNet>,

    /// For how long, such as 30s, 10m, 2h or 1d [default: until the daemon ends].
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub time: Option<Duration>,

    /// Deny the network no longer. What `block-cidrs` blocks stays.
    #[arg(long, conflicts_with_all = ["time", "list"])]
    pub remove: bool,

    /// Only show what is denied.
    #[arg(long, conflicts_with_all = ["network", "time"])]
    pub list: bool,

    /// Format of the answer.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

fn parse_denied(text: &str) -> Result<IpNet, String> {
    let network = parse_network(text)?;
    if network.prefix_len() == 0 {
        return Err("this would deny every client; a longer prefix is expected".to_owned());
    }
    Ok(network)
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let expected = || "a number with s, m, h or d is expected, such as 10m".to_owned();
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(expected)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    match number.checked_mul(seconds) {
        Some(seconds @ 1..TIME_MAX) => Ok(Duration::from_secs(seconds)),
        _ => Err("a time between 1s and 3650d is expected".to_owned()),
    }
}

/// Ten years, in seconds.
const TIME_MAX: u64 = 3650 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("10m").unwrap(), Duration::from_mins(10));
        assert_eq!(parse_time("2h").unwrap(), Duration::from_hours(2));
        for text in ["", "m", "10", "-1m", "0s", "99999999999999999999d", "1é"] {
            parse_time(text).unwrap_err();
        }
    }

    #[test]
    fn networks_of_prefix_length_zero_are_refused() {
        parse_denied("0.0.0.0/0").unwrap_err();
        parse_denied("192.0.2.1").unwrap();
    }
}
