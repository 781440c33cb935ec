//! How much memory the process may use, and what part of it clients get.

use clap::Args;
use ingress_core::annotation::read_size;

use crate::proxy::MemoryLimits;

/// Flags of memory.
#[derive(Clone, Debug, Args)]
pub struct Memory {
    /// Memory that the process may use, as in 512m or 2g [default: the limit of its cgroup, else
    /// the machine's memory]. A quarter of it is for clients that do not read their responses:
    /// beyond that, those that have not read for longest are closed. Half of it is for connections,
    /// 16k each, as far as there are descriptors for them: beyond that, those that have been idle
    /// longest are closed.
    #[arg(long, env = "SLUICE_MEMORY_LIMIT", value_name = "SIZE", value_parser = read_size)]
    pub memory_limit: Option<u64>,
}

/// The limits that the machine sets for the process.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// File descriptors.
    pub descriptors: u32,
    /// Bytes of memory.
    pub memory: u64,
}

impl Memory {
    /// The memory limits of each of `workers` workers.
    pub fn limits(&self, workers: u32, machine: Machine) -> MemoryLimits {
        let limit = self.memory_limit.unwrap_or(machine.memory);
        let stalled = limit / STALLED_PART / u64::from(workers.max(1));
        let by_memory = limit / CONNECTIONS_PART / CONNECTION_BYTES;
        let descriptors = u64::from(machine.descriptors);
        let by_descriptors = descriptors - descriptors / RESERVED_PART;
        let connections = by_memory.min(by_descriptors) / u64::from(workers.max(1));
        MemoryLimits {
            stalled_bytes_max: usize::try_from(stalled).unwrap_or(usize::MAX),
            connections_max: connections.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX),
        }
    }
}

/// The part of memory that clients may hold that do not read.
const STALLED_PART: u64 = 4;

/// The part of it for connections, and what an idle one takes over TLS.
const CONNECTIONS_PART: u64 = 2;
const CONNECTION_BYTES: u64 = 16 * 1024;

/// The part of descriptors that is kept for connections to endpoints, the admin socket and logs.
const RESERVED_PART: u64 = 4;

/// Connections of one worker, however little the machine has, and however much.
const CONNECTIONS_MIN: u64 = 16;
const CONNECTIONS_MAX: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_quarter_of_the_memory() {
        let machine = Machine {
            descriptors: 1000,
            memory: 1 << 30,
        };
        let stalled = |memory_limit| {
            let limits = Memory { memory_limit }.limits(2, machine);
            limits.stalled_bytes_max
        };
        assert_eq!(stalled(None), 128 << 20);
        assert_eq!(stalled(Some(512 << 20)), 64 << 20);
    }

    #[test]
    fn connections_are_bounded_by_memory_and_descriptors() {
        let max = |memory_limit, descriptors| {
            let machine = Machine {
                descriptors,
                memory: 1 << 30,
            };
            Memory { memory_limit }.limits(2, machine).connections_max
        };
        assert_eq!(max(None, 1 << 20), 16_384);
        assert_eq!(max(Some(64 << 20), 1 << 20), 1024);
        assert_eq!(max(None, 400), 150);
        assert_eq!(max(None, 8), 16);
    }
}
