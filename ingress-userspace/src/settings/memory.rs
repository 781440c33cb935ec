//! How much memory the process may use, and what part of it clients get.

use clap::Args;
use ingress_core::annotation::read_size;

use crate::proxy::MemoryLimits;

/// Flags of memory.
#[derive(Clone, Debug, Args)]
pub struct Memory {
    /// Memory that the process may use, as in 512m or 2g [default: the limit of its cgroup, else
    /// the machine's memory]. A quarter of it is for clients that do not read their responses:
    /// beyond that, those that have not read for longest are closed.
    #[arg(long, env = "SLUICE_MEMORY_LIMIT", value_name = "SIZE", value_parser = read_size)]
    pub memory_limit: Option<u64>,
}

/// What the machine lets the process have.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// File descriptors.
    pub descriptors: u32,
    /// Bytes of memory.
    pub memory: u64,
}

impl Memory {
    /// What each of so many workers may hold.
    pub fn limits(&self, workers: u32, machine: Machine) -> MemoryLimits {
        let limit = self.memory_limit.unwrap_or(machine.memory);
        let stalled = limit / STALLED_PART / u64::from(workers.max(1));
        MemoryLimits {
            stalled_bytes_max: usize::try_from(stalled).unwrap_or(usize::MAX),
        }
    }
}

/// The part of memory that clients may hold that do not read.
const STALLED_PART: u64 = 4;

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
}
