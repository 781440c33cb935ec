//! Keys and values that choose the worker of a new connection.

use crate::abi::abi;

/// Workers that the listener map has room for; more cores than this share workers.
pub const WORKERS_MAX: u32 = 64;

/// Listener groups (HTTP, HTTPS, one for each L4 service) that the listener map has room for.
pub const LISTENER_GROUPS_MAX: u32 = 64;

/// Index into the `CONNECTIONS` map of the connections that host listeners serve; the cells
/// before it count those of each worker.
pub const HOST_CONNECTIONS: u32 = WORKERS_MAX;

/// Index into the `CONNECTIONS` map of a mark that steer sets when it leaves a new connection to
/// the host for want of a listener; user space clears it at start.
pub const LEFT_TO_HOST: u32 = HOST_CONNECTIONS + 1;

/// Cells of the `CONNECTIONS` map.
pub const CONNECTION_CELLS: u32 = LEFT_TO_HOST + 1;

/// Index into the `LISTENERS` socket map.
#[inline(always)]
#[must_use]
pub const fn listener_index(group: u32, worker: u32) -> u32 {
    group * WORKERS_MAX + worker
}

abi! {
    /// A port that workers accept on: key of the `PORTS` map, whose value is the listener group.
    pub struct Port {
        /// Destination port, network byte order.
        pub port: [u8; 2],
        /// IP protocol number: 6 TCP, 17 UDP.
        pub protocol: u8,
        /// Always 0.
        pub reserved: u8,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_group_and_worker_has_a_listener_of_its_own() {
        let groups = 0..LISTENER_GROUPS_MAX;
        let cells: HashSet<u32> = groups
            .flat_map(|group| (0..WORKERS_MAX).map(move |worker| listener_index(group, worker)))
            .collect();
        assert_eq!(cells, (0..LISTENER_GROUPS_MAX * WORKERS_MAX).collect());
    }

    #[test]
    fn cells_that_are_no_worker_s_lie_behind_those_of_workers() {
        let cells = [HOST_CONNECTIONS, LEFT_TO_HOST];
        assert!(
            cells
                .iter()
                .all(|cell| (WORKERS_MAX..CONNECTION_CELLS).contains(cell))
        );
        assert_ne!(cells[0], cells[1]);
    }
}
