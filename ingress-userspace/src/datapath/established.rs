//! Connections of the host at our ports that were there before us, such as those of a daemon on
//! ordinary sockets that is being replaced.

use std::fs;

/// Whether the calling thread's netns has any TCP connection at one of these local ports.
///
/// A table that can't be read counts as one with connections: looking for them then costs time,
/// not looking could cost a connection.
pub(super) fn any_at(ports: &[u16]) -> bool {
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
        .iter()
        .filter(|path| fs::exists(path).unwrap_or(true))
        .any(|path| fs::read_to_string(path).map_or(true, |table| has_connection(&table, ports)))
}

/// Reads the table of proc(5): a header, then lines of `sl local:port remote:port state …` in
/// hexadecimal.
fn has_connection(table: &str, ports: &[u16]) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next(), fields.nth(1));
        let port = local.and_then(|local| local.rsplit_once(':'));
        let port = port.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        let is_none = matches!(state, Some(LISTEN | TIME_WAIT));
        !is_none && port.is_some_and(|port| ports.contains(&port))
    })
}

// `net/tcp_states.h`.
const LISTEN: &str = "0A";
/// Both sides have ended it; no packet is expected any more.
const TIME_WAIT: &str = "06";

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
        0: 00000000:0050 00000000:0000 0A 00000000:00000000\n   \
        1: 0100000A:0016 0200000A:C350 01 00000000:00000000\n";

    #[test]
    fn a_listener_is_no_connection() {
        assert!(!has_connection(TABLE, &[80, 443]));
    }

    #[test]
    fn a_connection_that_both_sides_have_ended_is_none() {
        let waiting = TABLE.replace("50 01 ", "50 06 ");
        assert_ne!(waiting, TABLE);
        assert!(!has_connection(&waiting, &[22]));
    }

    #[test]
    fn a_connection_at_a_port_is_found() {
        assert!(has_connection(TABLE, &[80, 22]));
    }

    #[test]
    fn malformed_tables_have_no_connections() {
        assert!(!has_connection("", &[80]));
        assert!(!has_connection("header\nnonsense\n", &[80]));
    }
}
